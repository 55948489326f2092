//! Long lists: any node tells a thousand VMs at once, always as they are, and in a time that is printed.

use crate::house::{House, NOW, get};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use waifud_api::vm::Vm;
use waifud_model::{
    ids::Generation,
    observed::{VmObservation, VmState},
};

/// Runs `what` often enough for a median that means something.
async fn median<F: Future>(mut what: impl FnMut() -> F) -> Duration {
    let mut took = Vec::new();
    for _ in 0..51 {
        let begun = Instant::now();
        what().await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took[took.len() / 2]
}

/// Run alone and optimised: `cargo test --profile fast -p waifud-web --test api -- --ignored --nocapture thousand`.
#[tokio::test]
#[ignore = "prints times, and means something only where nothing else runs"]
#[allow(clippy::print_stdout, reason = "the times are what it is for")]
async fn what_a_thousand_vms_cost() {
    let house = House::start(4).await;
    house.fill(1000, 2 << 10).await;
    let node = &house.nodes[1];
    let read = median(|| node.consensus.read(|view| view.vms())).await;
    let brief = median(|| node.consensus.read(|view| view.vms_brief())).await;
    let list = median(|| node.get("/api/v1/vms")).await;
    let bytes = node.get("/api/v1/vms").await.bytes;
    let hash = median(|| async { blake3::hash(&bytes) }).await;
    let filtered = median(|| node.get("/api/v1/vms?filter=label.n%3D7")).await;
    let answer = node.get("/api/v1/vms").await;
    let vms: Vec<Vm> = serde_json::from_slice(&answer.bytes).unwrap();
    let written = median(|| async { serde_json::to_vec(&vms).unwrap() }).await;
    let mut n = 0;
    let moving = median(|| {
        n += 1;
        let told = VmObservation::new(VmState::Running, Generation(n), NOW);
        node.hear_of(1, vms[0].id, told);
        node.get("/api/v1/vms")
    })
    .await;
    let missing = median(|| node.call(get("/api/v1/vms/nobody"))).await;
    let metrics = median(|| node.get("/metrics")).await;
    let templates = median(|| node.get("/api/v1/templates")).await;
    println!(
        "{} VMs, {} bytes\nread {read:?}\nread in brief {brief:?}\nwrite JSON {written:?}\nBLAKE3 of it {hash:?}\nlist {list:?}\nlist after an observation {moving:?}\n\
         filtered {filtered:?}\nno such VM {missing:?}\nmetrics {metrics:?}\ntemplates {templates:?}",
        vms.len(),
        answer.bytes.len()
    );
    assert_eq!(vms.len(), 1000);
}

#[tokio::test]
async fn a_list_is_kept_only_while_it_is_true() {
    let house = House::start(3).await;
    let [near, far] = [&house.nodes[0], &house.nodes[1]];
    let made = near.post("/api/v1/vms", r##"{"name":"web-1","template":"tiny","user_data":"#!/bin/sh\n"}"##).await;
    let vm: Vm = serde_json::from_value(made.json()["vm"].clone()).unwrap();
    let list = |since: &crate::house::Answer| {
        let mut request = get("/api/v1/vms");
        request.headers_mut().insert("waifu-index", since.headers["waifu-index"].clone());
        far.call(request)
    };
    let first = list(&made).await;
    assert_eq!(first.header("content-type"), "application/json");
    let shown = serde_json::json!([far.get("/api/v1/vms/web-1").await.json()]);
    assert_eq!(first.json(), shown, "lists and single VMs are told alike");
    let again = list(&made).await;
    assert_eq!((&again.bytes, again.header("etag")), (&first.bytes, first.header("etag")));
    assert_eq!(first.header("cache-control"), "private, no-cache", "to be asked for again, unlike one object");

    let told = VmObservation::new(VmState::Running, Generation(1), NOW);
    far.see(|observed| {
        for node in observed.nodes.values_mut() {
            Arc::make_mut(node).vms.insert(vm.id, told);
        }
    });
    let seen = list(&made).await;
    assert_eq!(seen.json()[0]["status"]["state"], "running", "what is seen is told at once");
    assert_ne!(seen.header("etag"), first.header("etag"));
    let stopped = near.post("/api/v1/vms/web-1/stop", "").await;
    assert_eq!(list(&stopped).await.json()[0]["desired"], "stopped", "and so is what is wanted");
    assert_eq!(far.get("/api/v1/vms?filter=web").await.json(), list(&stopped).await.json());
    house.cut();
    assert_ne!(far.get("/api/v1/vms").await.json()[0]["status"].get("silent").is_some(), vm.node.as_str() == "n2");
}
