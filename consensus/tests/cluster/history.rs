//! What is remembered is part of the state: a node that gets it as a snapshot remembers as much as all others.

use crate::{
    commands::{write, written},
    harness::Cluster,
};
use waifud_consensus::state::{EventQuery, SubjectKey};
use waifud_model::{command::Command, event::SubjectKind};

#[tokio::test(start_paused = true)]
async fn a_fresh_node_remembers_by_its_snapshot() {
    let mut cluster = Cluster::simulated().with_snapshots(50, 5).grown(3).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, write(0)).await.unwrap();
    let gone = written(0);
    let revoke = crate::commands::proposal("revoke", Command::RevokeApiToken(gone));
    cluster.propose(leader, revoke).await.unwrap();
    for n in 1..200 {
        cluster.propose(leader, write(n)).await.unwrap();
    }
    cluster.until(leader, "a purged log", |status| status.purged.is_some_and(|index| index > 100)).await;
    cluster.join(4).await;
    cluster.digest().await;
    assert_eq!(cluster.node(4).metrics().snapshots_received, 1, "its log cannot tell what was before");
    let mut told = Vec::new();
    for node in [leader, 4] {
        let read = cluster.node(node).read(move |view| {
            let named = view.named(SubjectKind::Token, &gone.to_string())?;
            assert_eq!(named, [SubjectKey::Token(gone)]);
            assert!(view.api_token(gone)?.is_none());
            let commands = view.commands(&EventQuery::first(1000))?;
            Ok((view.events(&EventQuery::first(1000))?, commands))
        });
        told.push(read.await.unwrap());
    }
    let (events, commands) = &told[0];
    assert!(events.len() > 200 && commands.len() > 200, "{} {}", events.len(), commands.len());
    assert_eq!(told[0], told[1]);
}
