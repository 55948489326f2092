//! Three nodes: any of them answers for all, and says so when it cannot.

use crate::house::{Answer, House, delete, get, node_id};
use expect_test::expect;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use waifud_model::token::Role;

#[tokio::test]
async fn any_node_answers_for_all() {
    let house = House::start(3).await;
    let created = house.nodes[1].post("/api/v1/vms", r#"{"name":"web-1","template":"tiny"}"#).await;
    assert_eq!(created.status.as_u16(), 201);
    let mut lists = Vec::new();
    for node in &house.nodes {
        let mut request = get("/api/v1/vms");
        request.headers_mut().insert("waifu-index", created.headers["waifu-index"].clone());
        let list = node.call(request).await;
        assert_eq!((list.header("waifu-stale"), list.json().as_array().unwrap().len()), ("", 1));
        lists.push(list.bytes);
    }
    assert!(lists.iter().all(|list| *list == lists[0]), "all nodes answer alike");
    let linearizable = house.nodes[2].get("/api/v1/vms/web-1?consistency=linearizable").await;
    assert_eq!(linearizable.status.as_u16(), 200);

    let mut status = house.nodes[0].get("/api/v1/cluster").await.json();
    assert_eq!(status["state"]["digest"].as_str().unwrap().len(), 64);
    for field in ["state", "leader", "term"] {
        status.as_object_mut().unwrap().remove(field);
    }
    for member in status["members"].as_array_mut().unwrap() {
        for field in ["role", "applied"] {
            member.as_object_mut().unwrap().remove(field);
        }
    }
    expect![[r#"
        {
          "advice": [],
          "answered_by": "n1",
          "ca": "4B:F5:12:2F:34:45:54:C5:3B:DE:2E:BB:8C:D2:B7:E3:D1:60:0A:D6:31:C3:85:A5:D7:CC:E2:3C:77:85:45:9A",
          "cidr": "10.77.0.0/16",
          "feature_level": 1,
          "id": "01010101-0101-4101-8101-010101010101",
          "members": [
            {
              "alive": true,
              "name": "n1",
              "since": "2025-10-09T08:52:20.000Z",
              "version": "0.1.0"
            },
            {
              "alive": true,
              "name": "n2",
              "since": "2025-10-09T08:52:20.000Z",
              "version": "0.1.0"
            },
            {
              "alive": true,
              "name": "n3",
              "since": "2025-10-09T08:52:20.000Z",
              "version": "0.1.0"
            }
          ],
          "quorum": true,
          "vms": 1
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&status).unwrap());
    let metrics = house.nodes[0].get("/metrics").await;
    assert!(metrics.text().contains("waifud_cluster_nodes{state=\"alive\"} 3"), "{}", metrics.text());
    let commits =
        metrics.text().lines().find_map(|line| line.strip_prefix("waifud_raft_log_commits_total ")?.parse().ok());
    assert!(commits.is_some_and(|commits: u64| commits > 0), "{}", metrics.text());
    assert!(
        metrics
            .text()
            .contains("waifud_http_requests_total{method=\"GET\",route=\"/api/v1/cluster\",status=\"200\"} 1")
    );
}

#[tokio::test]
async fn without_quorum_it_reads_and_refuses_to_write() {
    let house = House::start(3).await;
    let node = &house.nodes[1];
    node.post("/api/v1/vms", r#"{"name":"web-1","template":"tiny","node":"n3"}"#).await;
    house.cut();
    let list = node.get("/api/v1/vms").await;
    assert_eq!(list.header("waifu-stale"), "no_quorum");
    assert_eq!(list.header("waifu-age"), "5000");
    assert_eq!(list.json()[0]["status"]["silent"]["since"], "2025-10-09T08:53:15.000Z");

    let began = Instant::now();
    let answers = [
        node.post("/api/v1/vms", r#"{"name":"web-2","template":"tiny"}"#).await,
        node.call(delete("/api/v1/vms/web-1")).await,
        node.upload("other", b"bytes").await,
        node.get("/api/v1/vms?consistency=linearizable").await,
        node.get("/readyz").await,
    ];
    // Four of them wait for a leader, a second each at the most; the margin is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let told: String = answers.iter().map(Answer::told).collect();
    expect![[r#"
        503 no_quorum: 1 of 3 voters are heard, and 2 are needed to agree on a change. VMs run on, and everything can be looked at on any node; creating, changing and deleting must wait
        → bring a missing voter back; waifuctl cluster status names them
        503 no_quorum: 1 of 3 voters are heard, and 2 are needed to agree on a change. VMs run on, and everything can be looked at on any node; creating, changing and deleting must wait
        → bring a missing voter back; waifuctl cluster status names them
        503 no_quorum: 1 of 3 voters are heard, and 2 are needed to agree on a change. VMs run on, and everything can be looked at on any node; creating, changing and deleting must wait
        → bring a missing voter back; waifuctl cluster status names them
        503 no_quorum: 1 of 3 voters are heard, and 2 are needed to agree on a change. VMs run on, and everything can be looked at on any node; creating, changing and deleting must wait
        → bring a missing voter back; waifuctl cluster status names them
        503 no_quorum: 1 of 3 voters are heard, and 2 are needed to agree on a change. VMs run on, and everything can be looked at on any node; creating, changing and deleting must wait
        → bring a missing voter back; waifuctl cluster status names them
    "#]].assert_eq(&told);
    let reasons =
        |answer: &Answer| -> Vec<String> { answer.problem().errors.into_iter().map(|error| error.field).collect() };
    assert_eq!(reasons(&answers[4])[0], "quorum");
    assert_eq!(node.get("/healthz").await.status, 200, "that is no reason to be restarted");
    assert!(!node.images.held.lock().unwrap().contains(&waifud_model::digest::Blake3::of(b"bytes")));

    let advice = node.get("/api/v1/cluster").await.json()["advice"].clone();
    expect![[r#"
        [
          {
            "code": "no_quorum",
            "message": "1 of 3 voters are heard: VMs run on, but nothing can be created, changed or deleted",
            "remedy": "bring a missing voter back"
          },
          {
            "code": "node_silent",
            "message": "node n1 is silent since 2025-10-09T08:53:15.000Z; it has no VMs",
            "remedy": "bring it back, or if it is lost for good: waifuctl node remove n1 --force"
          },
          {
            "code": "node_silent",
            "message": "node n3 is silent since 2025-10-09T08:53:15.000Z; it has 1 VM, and what they do is not known",
            "remedy": "bring it back, or if it is lost for good: waifuctl node remove n3 --force"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&advice).unwrap());
}

#[tokio::test]
async fn one_node_tells_the_numbers_of_all() {
    let house = House::start(3).await;
    let node = &house.nodes[0];
    house.stall(3);
    let mut request = get("/metrics?cluster=true");
    request.headers_mut().insert("x-request-id", "scrape-1".parse().unwrap());
    let answer = node.call_as(Role::Viewer, request).await;
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let told = answer.text();
    let samples = |family: &str| -> Vec<&str> { told.lines().filter(|line| line.starts_with(family)).collect() };
    assert_eq!(
        samples("waifud_up"),
        ["waifud_up{node=\"n1\"} 1", "waifud_up{node=\"n2\"} 1", "waifud_up{node=\"n3\"} 0"]
    );
    assert_eq!(
        samples("waifud_build_info"),
        ["waifud_build_info{node=\"n1\",version=\"0.1.0\"} 1", "waifud_build_info{node=\"n2\",version=\"0.1.0\"} 1"]
    );
    let leaders: u32 = samples("waifud_raft_leader").iter().map(|l| l[l.len() - 1..].parse::<u32>().unwrap()).sum();
    assert!(samples("waifud_raft_leader").len() == 2 && leaders <= 1, "{told}");
    assert_eq!(told.matches("# TYPE waifud_raft_leader").count(), 1, "each family is introduced once: {told}");
    assert!(told.ends_with("\n# EOF\n") && told.matches("# EOF").count() == 1, "{told}");
    let forwarded = [2, 3].map(|n| (node_id(n), "scrape-1".to_owned()));
    assert_eq!(house.forwarded(), forwarded, "and one id is in the logs of all");

    house.deafen(2);
    let alone = node.get("/metrics?cluster=true").await;
    for (n, up) in [(1, 1), (2, 0), (3, 0)] {
        assert!(alone.text().contains(&format!("waifud_up{{node=\"n{n}\"}} {up}\n")), "{}", alone.text());
    }

    let alone = node.get("/metrics").await;
    assert!(!alone.text().contains("waifud_up"), "{}", alone.text());
    assert_eq!(node.get("/metrics?cluster=maybe").await.status.as_u16(), 400);
    let stranger = node.send(get("/metrics?cluster=true")).await;
    assert_eq!(stranger.status.as_u16(), 401, "{}", stranger.text());
}

#[tokio::test]
async fn a_node_that_is_behind_is_not_ready() {
    let house = House::start(3).await;
    let leader = house.nodes[0].consensus.status().borrow().leader.unwrap();
    let node = house.nodes.iter().find(|node| node.app.node != leader).unwrap();
    assert_eq!(node.get("/readyz").await.text(), "ready\n");
    let applied = node.consensus.applied().borrow().index;
    let hear = |applied: u64| {
        node.see(|observed| Arc::make_mut(observed.nodes.get_mut(&leader).unwrap()).applied = Some(applied));
    };
    hear(applied + 1_000_000);
    let behind = node.get("/readyz").await;
    assert_eq!((behind.status.as_u16(), behind.problem().errors[0].field.as_str()), (503, "caught_up"));
    assert!(behind.problem().errors[0].message.contains(&(applied + 1_000_000).to_string()), "{}", behind.text());
    hear(applied + 1);
    assert_eq!(node.get("/readyz").await.text(), "ready\n", "a moment is no lag");
}
