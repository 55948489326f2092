//! Tests of the writer thread: order, shared transactions, and what a failure stops.

use super::*;
use rusqlite::params;

fn both() -> [Storage; 2] {
    [Storage::Threads, Storage::Inline { durable: false }]
}

fn writer(storage: Storage) -> (Writer, Halted) {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE t (n INTEGER NOT NULL PRIMARY KEY) STRICT").unwrap();
    let halted = Halted::default();
    (Writer::start("test", connection, storage, halted.clone()).unwrap(), halted)
}

fn insert(n: i64) -> impl FnOnce(&Transaction<'_>) -> Result<(), DatabaseError> + Send {
    move |tx| tx.execute("INSERT INTO t VALUES (?1)", params![n]).map(drop).map_err(DatabaseError::sqlite("insert"))
}

async fn count(writer: &Writer) -> i64 {
    writer
        .alone(|db| {
            db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).map_err(DatabaseError::sqlite("count"))
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn jobs_run_in_order_and_are_counted() {
    for storage in both() {
        let (writer, halted) = writer(storage);
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..100 {
            let sender = sender.clone();
            writer.submit(insert(n), move |result| sender.send((n, result.is_ok())).unwrap());
        }
        for n in 0..100 {
            assert_eq!(order.recv().await, Some((n, true)), "{storage:?}");
        }
        assert_eq!(count(&writer).await, 100);
        let (jobs, commits) = (&writer.counters().jobs, &writer.counters().commits);
        assert!(jobs.load(Ordering::Relaxed) >= 100);
        assert!(commits.load(Ordering::Relaxed) <= 100);
        assert_eq!(halted.get(), None);
    }
}

#[tokio::test]
async fn queued_jobs_share_a_transaction() {
    let (writer, _) = writer(Storage::Threads);
    let (hold, held) = mpsc::channel::<()>();
    writer.submit(move |_| held.recv().map_err(|error| DatabaseError::Corrupt(error.to_string())), |_| {});
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..50 {
        let sender = sender.clone();
        writer.submit(insert(n), move |result| sender.send(result.is_ok()).unwrap());
    }
    hold.send(()).unwrap();
    for _ in 0..50 {
        assert_eq!(done.recv().await, Some(true));
    }
    assert_eq!(writer.counters().commits.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn after_a_failure_nothing_more_is_written() {
    for storage in both() {
        let (writer, halted) = writer(storage);
        writer.write(insert(1)).await.unwrap();
        let error = writer.write(insert(1)).await.unwrap_err();
        assert!(matches!(*error, DatabaseError::Sqlite { .. }), "{error:?}");
        assert!(halted.get().unwrap().contains("UNIQUE constraint failed"), "{halted:?}");
        let error = writer.write(insert(2)).await.unwrap_err();
        assert!(matches!(*error, DatabaseError::Stopped { .. }), "{error:?}");
        let error = writer.alone(|_| Ok(())).await.unwrap_err();
        assert!(matches!(*error, DatabaseError::Stopped { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_panic_in_a_job_is_an_error_for_those_that_wait() {
    let (writer, _) = writer(Storage::Threads);
    let result = writer.alone::<()>(|_| panic!("a bug")).await;
    assert!(matches!(*result.unwrap_err(), DatabaseError::Stopped { .. }));
    assert!(writer.write(insert(1)).await.is_err());
}

#[tokio::test]
async fn closing_finishes_what_was_queued() {
    for storage in both() {
        let (writer, _) = writer(storage);
        let (sender, receiver) = oneshot::channel();
        writer.submit(insert(1), move |result| sender.send(result.is_ok()).unwrap());
        writer.close().await;
        assert!(receiver.await.unwrap());
        assert!(writer.write(insert(2)).await.is_err());
        writer.close().await;
    }
}
