//! `waifuctl net` as people and scripts see it: what is in the WireGuard configuration, where it goes, and what is never sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{Fake, ok, refuse};
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};
use waifud_api::problem::ProblemCode;

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn net() -> Value {
    json!({
        "cidr": "10.77.0.0/16", "peers_subnet": "10.77.255.0/24", "domain": "waifu.internal",
        "nodes": [
            { "node": "n1", "subnet": "10.77.1.0/24", "gateway": "10.77.1.1", "address": "192.168.1.11",
              "mesh": { "key": KEY, "endpoint": "192.168.1.11:7444" } },
            { "node": "n2", "subnet": "10.77.2.0/24", "gateway": "10.77.2.1", "address": "192.168.1.12" }
        ]
    })
}

fn peer(name: &Value, key: &Value) -> Value {
    json!({ "name": name, "key": key, "ip": "10.77.255.1", "created_at": "2026-03-01T12:00:00Z" })
}

/// A cluster that lets everybody in; what it was told is kept.
fn cluster() -> (Fake, Arc<Mutex<Vec<Value>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let fake = Fake::serve(move |line, body| match line {
        "GET /api/v1/net" => ok(net()),
        "GET /api/v1/net/peers" => ok(json!([peer(&json!("laptop"), &json!(KEY))])),
        "POST /api/v1/net/peers" => {
            let request: Value = serde_json::from_slice(body).unwrap();
            let reply = ok(peer(&request["name"], &request["key"]));
            kept.lock().unwrap().push(request);
            reply
        }
        "DELETE /api/v1/net/peers/laptop" => Response::builder().status(204).body(Full::default()).unwrap(),
        _ => refuse(ProblemCode::NoSuchPeer),
    });
    (fake, told)
}

/// The value of a line of the configuration.
fn value<'a>(config: &'a str, name: &str) -> &'a str {
    config.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).unwrap()
}

#[tokio::test]
async fn a_machine_gets_a_configuration_and_the_cluster_only_its_public_key() {
    let (fake, told) = cluster();
    let ended = fake.run(&["net", "peer", "add", "laptop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let private = value(&ended.out, "PrivateKey").to_owned();
    expect![[r#"
        [Interface]
        PrivateKey = KEY
        Address = 10.77.255.1/32
        MTU = 1420
        # The nodes answer for NAME.waifu.internal and ask others for the rest. wg-quick needs resolvconf for this line;
        # without it, take the line out and use addresses.
        DNS = 10.77.1.1, waifu.internal

        # n1
        [Peer]
        PublicKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
        Endpoint = 192.168.1.11:7444
        AllowedIPs = 10.77.1.0/24
        PersistentKeepalive = 25
    "#]]
    .assert_eq(&ended.out.replace(&private, "KEY"));
    expect![[r#"
        warning: n2 has no end of the mesh yet, so its VMs cannot be reached from outside
        laptop is let in: 10.77.255.1
    "#]]
    .assert_eq(&ended.err);
    let told = told.lock().unwrap();
    assert!(!told[0].to_string().contains(&private));
    if let Some(public) = wg_pubkey(&private) {
        assert_eq!(told[0]["key"], public);
    }
    wg_quick_takes(&ended.out);
}

/// What WireGuard's own tool makes of a private key, where it is installed.
fn wg_pubkey(private: &str) -> Option<String> {
    let mut wg = Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    wg.stdin.take().unwrap().write_all(private.as_bytes()).unwrap();
    let output = wg.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// WireGuard's own tool reads the file, where it is installed and may (it wants to be root even for that).
fn wg_quick_takes(config: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waifu.conf");
    fs::write(&path, config).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
    if !root || !std::path::Path::new("/usr/bin/wg-quick").exists() {
        return;
    }
    let stripped = Command::new("wg-quick").arg("strip").arg(&path).output().unwrap();
    assert!(stripped.status.success(), "{}", String::from_utf8_lossy(&stripped.stderr));
    let stripped = String::from_utf8(stripped.stdout).unwrap();
    assert!(stripped.contains("AllowedIPs = 10.77.1.0/24") && !stripped.contains("DNS"), "{stripped}");
}

#[tokio::test]
async fn who_has_a_key_puts_it_in() {
    let (fake, told) = cluster();
    let ended = fake.run(&["net", "peer", "add", "router", "--key", KEY]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(told.lock().unwrap()[0], json!({ "name": "router", "key": KEY }));
    assert!(ended.out.starts_with("[Interface]\n# Put your private key here:\n# PrivateKey = ...\n"), "{}", ended.out);
}

#[tokio::test]
async fn a_file_is_new_and_its_owner_s() {
    let (fake, told) = cluster();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waifu.conf");
    let args = ["net", "peer", "add", "laptop", "--output-file", path.to_str().unwrap()];
    let ended = fake.run(&args).await;
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{}", ended.err);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&path).unwrap().contains("PrivateKey = "));
    let again = fake.run(&args).await;
    assert_eq!((again.code, told.lock().unwrap().len()), (1, 1), "nobody is let in without a place for the key");

    let refusing = Fake::serve(|line, _| match line {
        "GET /api/v1/net" => ok(net()),
        _ => refuse(ProblemCode::NameTaken),
    });
    let other = dir.path().join("other.conf");
    let refused = refusing.run(&["net", "peer", "add", "laptop", "--output-file", other.to_str().unwrap()]).await;
    assert_eq!((refused.code, other.exists()), (7, false), "{}", refused.err);
}

#[tokio::test]
async fn a_telephone_gets_a_code_and_programs_a_structure() {
    let (fake, _) = cluster();
    let code = fake.run(&["net", "peer", "add", "phone", "--qr"]).await;
    assert!(code.err.lines().count() > 20 && code.err.contains("█▀"), "{}", code.err);
    let dir = tempfile::tempdir().unwrap();
    let shown = fake.on_terminal(&["net", "peer", "add", "phone"], "true", "", dir.path()).await;
    assert!(shown.out.contains("█▀"), "{}", shown.out);
    for without in ["--no-qr", "-q"] {
        let none = fake.on_terminal(&["net", "peer", "add", "phone", without], "true", "", dir.path()).await;
        assert!(!none.out.contains("█▀"), "{}", none.out);
    }
    let json = fake.run(&["net", "peer", "add", "phone", "-o", "json"]).await.out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ip"], "10.77.255.1");
    assert!(json["config"].as_str().unwrap().contains("PrivateKey = "));
}

#[tokio::test]
async fn where_nobody_can_be_reached_nobody_is_let_in() {
    let fake = Fake::serve(|_, _| {
        let mut net = net();
        net["nodes"].as_array_mut().unwrap().remove(0);
        ok(net)
    });
    let ended = fake.run(&["net", "peer", "add", "laptop"]).await;
    assert_eq!(ended.code, 1);
    assert_eq!(fake.asked(), ["GET /api/v1/net"]);
}

#[tokio::test]
async fn the_network_and_its_machines_are_listed() {
    let (fake, _) = cluster();
    expect![[r#"
        n1|10.77.1.0/24|10.77.1.1|192.168.1.11|192.168.1.11:7444
        n2|10.77.2.0/24|10.77.2.1|192.168.1.12|-
    "#]]
    .assert_eq(&fake.run(&["net", "list"]).await.out.replace('\t', "|"));
    let json: Value = serde_json::from_str(&fake.run(&["net", "list", "-o", "json"]).await.out).unwrap();
    assert_eq!(json, net());
    expect![[r#"
        ip route add 10.77.1.0/24 via 192.168.1.11
        ip route add 10.77.2.0/24 via 192.168.1.12
    "#]]
    .assert_eq(&fake.run(&["net", "list", "--routes"]).await.out);
    assert_eq!(fake.run(&["net", "peer", "list", "-o", "name"]).await.out, "laptop\n");
}

#[tokio::test]
async fn machines_are_sent_away() {
    let (fake, _) = cluster();
    let ended = fake.run(&["net", "peer", "delete", "laptop", "nobody"]).await;
    assert_eq!(ended.code, 8, "{}", ended.err);
    assert!(ended.err.contains("laptop is no longer let in"), "{}", ended.err);
    assert_eq!(fake.run(&["net", "peer", "delete", "nobody"]).await.code, 3);
}
