//! What guests are told, and what lets people and machines in, stands nowhere else: not in a log, an event, an answer to
//! somebody who may only look, a problem, or a number.
//!
//! All that three daemons say, at their most talkative, is searched for each secret, as it is and as bytes are commonly
//! written. That the search finds what it should is shown with what is no secret.

use super::support::{disk_image, text};
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose};
use serde_json::{Value, json};
use waifud_api::token::{ApiTokenCreate, JoinTokenCreate};
use waifud_gossip::join::JoinToken;
use waifud_model::token::Role;
use waifud_tests::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::Lab,
};

/// What must not be found: a word to call it by, and its bytes.
type Secret = (&'static str, Vec<u8>);

/// Documents of guests: each has its own word, so that a find says where it comes from.
const WORDS: [(&str, &str); 8] = [
    ("user-data", "waldmeister-7f3a91c2"),
    ("network-config", "quellwasser-20be6d45"),
    ("replaced user-data", "holunder-b81c04fe"),
    ("default user-data", "brennnessel-5e9d7710"),
    ("vendor-data", "sauerampfer-c3f2a688"),
    ("refused YAML", "schafgarbe-91d04b3c"),
    ("broken JSON", "beinwell-64e8aa07"),
    ("no base64", "loewenzahn-0c7b52ed"),
];

/// The VM whose name is no secret.
const NAME: &str = "web-1";

fn word(of: &str) -> &'static str {
    WORDS.iter().find(|(name, _)| *name == of).expect("a word of the list").1
}

/// All that was said, each with where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Where the bytes stand, in any form.
    fn places(&self, bytes: &[u8]) -> Vec<&str> {
        let forms = forms(bytes);
        let holds = |text: &str| forms.iter().any(|form| text.contains(form));
        self.0.iter().filter(|(_, text)| holds(text)).map(|(place, _)| place.as_str()).collect()
    }
}

/// As text, in hexadecimal, as `Debug` writes bytes, and in base64 wherever in a longer document they are.
fn forms(bytes: &[u8]) -> Vec<String> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    let mut forms = vec![hex, list[1..list.len() - 1].to_owned(), list[1..list.len() - 1].replace(", ", ",")];
    forms.extend(std::str::from_utf8(bytes).ok().map(str::to_owned));
    for shift in 0..3 {
        let shifted = [&vec![0; shift], bytes].concat();
        for engine in [&general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&shifted);
            // The first and the last group of four also hold bits of what is around; of a short word nothing is left then.
            forms.extend(
                encoded.get(4..encoded.len().saturating_sub(4)).filter(|rest| rest.len() >= 8).map(str::to_owned),
            );
        }
    }
    forms
}

/// What a node answers on its socket, where everybody is an admin.
fn local(cluster: &Cluster, node: usize, path: &str, more: &[&str]) -> Result<String> {
    let url = format!("http://localhost{path}");
    let mut curl = cluster.host(node).command("curl");
    curl.args(["-sS", "--max-time", "5", "--unix-socket", "/run/waifud/api.sock", &url]).args(more);
    Ok(String::from_utf8_lossy(&curl.output()?.stdout).into_owned())
}

/// The same over HTTPS, for the bearer of a token. A stream is followed for a second.
fn bearing(cluster: &Cluster, node: usize, path: &str, token: &str, more: &[&str]) -> Result<String> {
    let url = format!("https://{}:7443{path}", cluster.host(node).address());
    let mut curl = cluster.host(node).command("curl");
    curl.args(["-sSk", "--max-time", "1", "-H", &format!("Authorization: Bearer {token}"), &url]).args(more);
    Ok(String::from_utf8_lossy(&curl.output()?.stdout).into_owned())
}

/// Sends JSON.
fn send(cluster: &Cluster, node: usize, method: &str, path: &str, body: &str, more: &[&str]) -> Result<String> {
    let mut all = vec!["-X", method, "-H", "Content-Type: application/json", "--data-binary", body];
    all.extend(more);
    local(cluster, node, path, &all)
}

/// All paths that can be looked at, by the API's own description, with names put in.
fn paths(document: &str) -> Result<Vec<String>> {
    let document: Value = serde_json::from_str(document)?;
    let paths = document["paths"].as_object().context("a description without paths")?;
    let looked_at = paths.iter().filter(|(_, path)| path.get("get").is_some());
    Ok(looked_at
        .map(|(path, _)| {
            let name = match path {
                path if path.contains("/templates/") => "disk",
                path if path.contains("/nodes/") => "n1",
                path if path.contains("/peers/") => "laptop",
                _ => NAME,
            };
            path.replace("{name}", name).replace("{kind}", "vm")
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stand_nowhere() -> Result<()> {
    let mut cluster = Cluster::start_talkative(Lab::plain(3)?, WITHOUT_GUESTS).await?;
    let dir = tempfile::tempdir()?;
    let image = disk_image(dir.path())?;
    assert!(cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&image)])?.status.success());
    let mut secrets: Vec<Secret> = WORDS.map(|(name, word)| (name, word.as_bytes().to_vec())).to_vec();
    let mut said = Said::default();
    let leader = cluster.leader(1).await?;
    let (owner, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);

    // Made through a node that neither leads nor owns it, so that everything is passed on.
    let create = json!({
        "name": NAME, "template": "disk", "node": format!("n{owner}"), "memory": "64M", "disk": "16M", "start": false,
        "user_data": format!("#cloud-config\npassword: {}\n", word("user-data")),
        "network_config": format!("version: 2\n# {}\n", word("network-config")),
    });
    let created = send(&cluster, other, "POST", "/api/v1/vms", &create.to_string(), &["-H", "X-Request-Id: create/1"])?;
    assert!(created.contains("\"id\""), "{created}");
    said.add("the answer to a create", created);
    let path = format!("/api/v1/vms/{NAME}/cloud-init");
    let replace = json!({ "user_data": format!("#!/bin/sh\necho {}\n", word("replaced user-data")) }).to_string();
    let defaults = json!({
        "user_data": format!("#cloud-config\npassword: {}\n", word("default user-data")),
        "vendor_data": format!("#cloud-config\npassword: {}\n", word("vendor-data")),
    })
    .to_string();
    let first = ["-H", "If-Match: \"1\""];
    let none = ["-H", "If-Match: \"0\""];
    for (place, path, body, expect) in [
        ("the answer to new documents", path.as_str(), replace, first),
        ("the answer to new defaults", "/api/v1/cluster/cloud-init", defaults, none),
    ] {
        let saved = send(&cluster, other, "PUT", path, &body, &expect)?;
        assert!(saved.contains("\"generation\""), "{place}: {saved}");
        said.add(place, saved);
    }

    // What is refused is told without repeating it.
    let refused = [
        json!({ "user_data": format!("#cloud-config\n{}: [\n", word("refused YAML")) }).to_string(),
        format!("{{\"user_data\": \"#cloud-config\\npassword: {}", word("broken JSON")),
        json!({ "user_data": { "base64": word("no base64") } }).to_string(),
    ];
    for body in refused {
        let told = send(&cluster, other, "PUT", &path, &body, &["-H", "If-Match: *"])?;
        assert!(told.contains("\"request_id\""), "a problem: {told}");
        said.add("a problem", told);
    }

    let client = cluster.client(other);
    let mut tokens = Vec::new();
    for role in [Role::Viewer, Role::Operator] {
        let description = "to look around".to_owned();
        let token = ApiTokenCreate { role, description, valid_seconds: None, scope: None };
        tokens.push(client.create_api_token(&token).await?.value.token);
    }
    let (viewer, operator) = (&tokens[0], &tokens[1]);
    let unknown = format!("{}{}", &viewer[..viewer.len() - 8], "01234567");
    for (name, token) in [("viewer's token", viewer), ("operator's token", operator), ("a wrong token", &unknown)] {
        let secret = token.rsplit('_').next().context("a token without a secret")?;
        secrets.push((name, secret.as_bytes().to_vec()));
    }
    said.add("the answer to a wrong token", bearing(&cluster, other, "/api/v1/vms", &unknown, &[])?);
    let fresh = JoinTokenCreate { valid_seconds: JoinTokenCreate::default_seconds(), uses: 1 };
    let fresh = client.create_join_token(&fresh).await?.value.token;
    let used = std::fs::read_to_string(cluster.host(2).path("/run/waifud/token"))?;
    for (name, key, token) in
        [("a join token", "its key", fresh.trim()), ("a used join token", "the used one's key", used.trim())]
    {
        secrets.push((name, token.as_bytes().to_vec()));
        secrets.push((key, token.parse::<JoinToken>()?.key().to_vec()));
    }
    let conf = cluster.waifuctl(other, &["net", "peer", "add", "laptop"])?;
    let conf = String::from_utf8_lossy(&conf.stdout).into_owned();
    let key = conf.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).context("a peer without a key")?;
    secrets.push(("a peer's private key", key.trim().as_bytes().to_vec()));

    // A question that only the owner can answer goes there under the same id.
    let logs = format!("/api/v1/vms/{NAME}/logs");
    said.add("a guest's log", local(&cluster, other, &logs, &["-H", "X-Request-Id: logs/1"])?);

    let document = bearing(&cluster, other, "/api/v1/openapi.json", viewer, &[])?;
    let paths = paths(&document)?;
    assert!(paths.len() > 20, "{paths:?}");
    for node in 1..=3 {
        let client = cluster.client(node);
        wait("all to be known everywhere", async || {
            let peers = client.net_peers().await.ok()?.value;
            (peers.len() == 1).then_some(())
        })
        .await?;
        for path in &paths {
            said.add(format!("GET {path} of n{node}"), bearing(&cluster, node, path, viewer, &[])?);
        }
        let live = ["-H", "Accept: text/event-stream", "-H", "Last-Event-ID: 0"];
        said.add(format!("stream of n{node}"), bearing(&cluster, node, "/api/v1/events", viewer, &live)?);
        for path in ["/api/v1/events?limit=1000", "/api/v1/audit?limit=1000", "/metrics?cluster=true"] {
            said.add(format!("GET {path} of n{node}, for an admin"), local(&cluster, node, path, &[])?);
        }
    }
    for node in 1..=3 {
        said.add(format!("log of n{node}"), cluster.daemon(node).log());
    }

    for (name, secret) in &secrets {
        let places = said.places(secret);
        assert!(places.is_empty(), "{name} stands in {places:?}");
    }
    // The same search finds what may be found, wherever it should be.
    let places = said.places(NAME.as_bytes());
    for node in 1..=3 {
        for place in [
            format!("log of n{node}"),
            format!("stream of n{node}"),
            format!("GET /api/v1/vms of n{node}"),
            format!("GET /api/v1/events of n{node}"),
            format!("GET /api/v1/history/vm/{NAME} of n{node}"),
            format!("GET /api/v1/audit?limit=1000 of n{node}, for an admin"),
        ] {
            assert!(places.contains(&place.as_str()), "{NAME} is not in {place}, but in {places:?}");
        }
        let log = cluster.daemon(node).log();
        assert!(log.contains("DEBUG"), "n{node} is not talkative");
    }
    // And an operator may look at what the guest is told.
    let mut open = Said::default();
    open.add("operator", bearing(&cluster, other, &path, operator, &[])?);
    assert_eq!(open.places(word("replaced user-data").as_bytes()), ["operator"]);

    for (node, id) in [(other, "create/1"), (leader, "create/1"), (other, "logs/1"), (owner, "logs/1")] {
        assert!(cluster.daemon(node).log().contains(id), "{id} is not in the log of n{node}");
    }
    Ok(())
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = b"waldmeister-7f3a91c2";
    let document = [b"#cloud-config\npassword: ".as_slice(), secret, b"\n"].concat();
    for text in [
        String::from_utf8_lossy(&document).into_owned(),
        format!("{document:?}"),
        document.iter().map(|byte| format!("{byte:02x}")).collect(),
        general_purpose::STANDARD.encode(&document),
        general_purpose::STANDARD.encode(&document[1..]),
        general_purpose::URL_SAFE_NO_PAD.encode(&document[2..]),
    ] {
        let mut said = Said::default();
        said.add("here", text.clone());
        assert_eq!(said.places(secret), ["here"], "{text}");
        assert_eq!(said.places(b"waldmeister_7f3a91c2"), [] as [&str; 0], "{text}");
    }
}
