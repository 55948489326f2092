//! Tests of the log on real files: restarts, reads ahead of the disk, damage and a full disk.

use super::*;
use crate::raft::types::{LeaderId, Logged, Membership};
use openraft::{EntryPayload, type_config::TypeConfigExt, vote::RaftLeaderId};
use rusqlite::Connection;
use std::collections::BTreeSet;
use waifud_model::ids::NodeId;

fn node(n: u64) -> NodeId {
    NodeId::from_random(n)
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, node(1)), index)
}

fn command(term: u64, index: u64, bytes: usize) -> Entry {
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Logged::from(vec![7; bytes])) }
}

fn open(dir: &Path) -> (LogStore, Halted) {
    let halted = Halted::default();
    (LogStore::open(dir, Storage::Threads, halted.clone()).unwrap(), halted)
}

/// Appends and waits for the disk.
async fn append(log: &mut LogStore, entries: Vec<Entry>) -> io::Result<()> {
    let (sender, receiver) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.unwrap()
}

async fn all(log: &mut LogStore) -> io::Result<Vec<Entry>> {
    log.try_get_log_entries(..).await
}

fn edit(dir: &Path, sql: &str) {
    Connection::open(dir.join("log.db")).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let membership = Membership::new_with_defaults(vec![BTreeSet::from([node(1)])], [node(1), node(2)]);
    let entries = vec![
        Entry { log_id: id(1, 0), payload: EntryPayload::Membership(membership) },
        Entry { log_id: id(1, 1), payload: EntryPayload::Blank },
        command(1, 2, 100),
        command(2, 3, 0),
    ];
    let vote = Vote::new_committed(2, node(3));
    {
        let (mut log, _) = open(dir.path());
        append(&mut log, entries.clone()).await.unwrap();
        log.save_vote(&vote).await.unwrap();
        log.close().await;
    }
    {
        let (mut log, _) = open(dir.path());
        assert_eq!(all(&mut log).await.unwrap(), entries);
        assert_eq!(log.read_vote().await.unwrap(), Some(vote));
        log.truncate_after(Some(id(1, 2))).await.unwrap();
        log.purge(id(1, 0)).await.unwrap();
        log.close().await;
    }
    let (mut log, _) = open(dir.path());
    assert_eq!(all(&mut log).await.unwrap(), entries[1..3]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 0)), Some(id(1, 2))));
}

#[tokio::test]
async fn entries_are_read_before_they_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let (hold, held) = std::sync::mpsc::channel::<()>();
    log.writer.submit(move |_| held.recv().map_err(|error| DatabaseError::Corrupt(error.to_string())), |_| {});
    let (sender, written) = Types::oneshot();
    log.append([command(1, 0, 9), command(1, 1, 9)], IOFlushed::signal(sender)).await.unwrap();
    assert_eq!(all(&mut log).await.unwrap().len(), 2);
    let on_disk: i64 = Connection::open(dir.path().join("log.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(on_disk, 0);
    hold.send(()).unwrap();
    written.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_follower_gets_at_least_one_entry_and_not_much_more_than_fits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let entries = (0..8).map(|index| command(1, index, if index == 4 { 2 * REPLICATE } else { REPLICATE / 3 }));
    append(&mut log, entries.collect()).await.unwrap();
    let mut count = async |from| log.limited_get_log_entries(from, 8).await.unwrap().len();
    assert_eq!(count(0).await, 2);
    assert_eq!(count(3).await, 1);
    assert_eq!(count(4).await, 1);
    assert_eq!(count(7).await, 1);
}

#[tokio::test]
async fn damage_is_found_and_never_read_as_data() {
    let damages = [
        ("UPDATE entries SET body = x'07' WHERE idx = 1", "log entry 1 does not match its checksum"),
        ("UPDATE entries SET term = 9 WHERE idx = 1", "log entry 1 does not match its checksum"),
        ("DELETE FROM entries WHERE idx = 1", "the log has a hole between 0 and 3"),
    ];
    for (sql, expected) in damages {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path());
        append(&mut log, (0..3).map(|index| command(1, index, 9)).collect()).await.unwrap();
        log.close().await;
        edit(dir.path(), sql);
        let (mut log, _) = open(dir.path());
        let error = all(&mut log).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_damaged_vote_keeps_the_log_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    log.save_vote(&Vote::new(1, node(1))).await.unwrap();
    log.close().await;
    edit(dir.path(), "UPDATE notes SET value = x'80'");
    let error = LogStore::open(dir.path(), Storage::Threads, Halted::default()).unwrap_err();
    assert!(error.to_string().contains("vote does not match its checksum"), "{error}");
}

#[tokio::test]
async fn a_full_disk_stops_the_log_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, halted) = open(dir.path());
    append(&mut log, vec![command(1, 0, 9)]).await.unwrap();
    let limit = |db: &mut Connection| {
        let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    };
    log.writer.alone(move |db| limit(db).map_err(DatabaseError::sqlite("limit the file"))).await.unwrap();
    let error = append(&mut log, vec![command(1, 1, 1 << 20)]).await.unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(halted.get().unwrap().contains("full"), "{halted:?}");
    assert!(log.save_vote(&Vote::new(5, node(1))).await.is_err(), "a vote after it must not be given");
    assert!(append(&mut log, vec![command(1, 1, 1)]).await.is_err());
}
