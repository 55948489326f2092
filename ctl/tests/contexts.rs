//! Contexts, login and defaults as people see them: what is pinned, what is kept where, and whom a token reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{Ended, Fake, Reply, ended, https, ok, problem, vm, waifuctl};
use http::request::Parts;
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;
use waifud_api::problem::{Problem, ProblemCode};

const TOKEN: &str = "waifu-secret-of-mine";

/// `waifuctl` by a user whose home is `home`.
async fn at_home(home: &Path, args: &[&str]) -> Ended {
    let mut command = waifuctl(args);
    command.env("HOME", home);
    ended(command).await
}

/// A node that answers whoever has the token.
fn node(head: &Parts, _: &[u8]) -> Reply {
    let token = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    if token.as_deref() != Some(&format!("Bearer {TOKEN}")) {
        return problem(&Problem::new(ProblemCode::Unauthenticated, "a token is needed"));
    }
    match head.uri.path() {
        "/api/v1/cluster" => ok(json!({
            "id": "01010101-0101-4101-8101-010101010101", "cidr": "10.77.0.0/16", "answered_by": "n1", "quorum": true,
            "leader": "n1", "term": 3, "vms": 0, "members": [], "feature_level": 1,
            "state": { "index": 812, "digest": "9".repeat(64) }, "advice": []
        })),
        _ => ok(json!([vm("web-1", "running")])),
    }
}

fn token_file(home: &TempDir) -> String {
    let file = home.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn login_pins_the_ca_keeps_the_token_and_is_used_from_then_on() {
    let cluster = https::serve(node).await;
    let home = tempfile::tempdir().unwrap();
    let token = token_file(&home);
    let stranger = at_home(home.path(), &["-H", &cluster.url, "ls"]).await;
    assert_eq!(stranger.code, 5);
    assert!(stranger.err.contains("try: waifuctl login https://"), "nothing is down: {}", stranger.err);
    let line = ["login", &cluster.url, "--name", "home", "--token-file", &token, "--fingerprint", &cluster.fingerprint];
    let done = at_home(home.path(), &line).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.ends_with("answers: n1\nlogged in to home: home is used from now on\n"), "{}", done.err);
    let config = home.path().join(".config/waifu");
    for (file, mode) in [("config.toml", 0o600), ("home.token", 0o600), ("home.ca.pem", 0o600)] {
        assert_eq!(fs::metadata(config.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    assert!(!fs::read_to_string(config.join("config.toml")).unwrap().contains(TOKEN), "secrets lie apart");
    // Neither host, nor token, nor CA are told any more.
    let list = at_home(home.path(), &["ls", "-o", "name"]).await;
    assert_eq!((list.code, list.out.as_str()), (0, "web-1\n"), "{}", list.err);
    let contexts = at_home(home.path(), &["context", "list"]).await.out.replace('\t', "|");
    assert_eq!(contexts, format!("home|yes|{}\n", cluster.url));
    let tried = at_home(home.path(), &["context", "remove", "home", "--dry-run", "-o", "name"]).await;
    assert_eq!((tried.code, tried.out.as_str()), (0, "home\n"));
    assert_eq!(tried.err.matches("would remove ").count(), 2, "{}", tried.err);
    assert!(config.join("home.token").exists() && config.join("home.ca.pem").exists());
    let gone = at_home(home.path(), &["context", "remove", "home"]).await;
    assert_eq!(gone.code, 0, "{}", gone.err);
    assert!(!config.join("home.token").exists() && !config.join("home.ca.pem").exists());
    assert!(Path::new(&token).exists(), "a file of the user's own stays");
}

#[tokio::test]
async fn a_ca_that_is_another_or_that_nobody_agrees_to_gets_no_token() {
    let cluster = https::serve(node).await;
    let home = tempfile::tempdir().unwrap();
    let token = token_file(&home);
    let line = ["login", &cluster.url, "--token-file", &token];
    let other = at_home(home.path(), &[&line[..], &["--fingerprint", &"AB:".repeat(32)]].concat()).await;
    assert_eq!(other.code, 9, "{}", other.err);
    assert!(other.err.contains(&cluster.fingerprint), "{}", other.err);
    let nobody = at_home(home.path(), &line).await;
    assert_eq!(nobody.code, 2, "{}", nobody.err);
    assert!(nobody.err.contains(&cluster.fingerprint) && nobody.err.contains("--yes"), "{}", nobody.err);
    let tokens = cluster.fake.heads().iter().filter(|head| head.headers.contains_key("authorization")).count();
    assert_eq!(tokens, 0, "the token was sent to somebody who has not proved to be the cluster");
    assert!(!home.path().join(".config").exists(), "nothing is noted");
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_noted() {
    let cluster = https::serve(node).await;
    let home = tempfile::tempdir().unwrap();
    let wrong = home.path().join("wrong");
    fs::write(&wrong, "another").unwrap();
    let line = ["login", &cluster.url, "--yes", "--token-file", wrong.to_str().unwrap()];
    let refused = at_home(home.path(), &line).await;
    assert_eq!(refused.code, 9, "{}", refused.err);
    assert!(!home.path().join(".config").exists());
}

#[tokio::test]
async fn a_fingerprint_is_agreed_to_and_a_token_typed_unseen() {
    let cluster = https::serve(node).await;
    let home = tempfile::tempdir().unwrap();
    let fake = Fake::serve(|_, _| ok(json!([])));
    // The token stands in the environment here: a terminal that does not echo cannot be typed on ahead.
    let config = home.path().join("config").display().to_string();
    let line = format!("XDG_CONFIG_HOME={config} WAIFU_TOKEN={TOKEN}");
    let done = fake.on_terminal_with(&line, &["login", &cluster.url, "--name", "x"], "true", "y\n", home.path()).await;
    assert_eq!(done.code, 0, "{}", done.out);
    assert!(done.out.contains(&cluster.fingerprint) && !done.out.contains(TOKEN), "{}", done.out);
    let again = fake.on_terminal_with(&line, &["login", &cluster.url], "true", "n\n", home.path()).await;
    assert!(again.code == 1 && again.out.contains("nothing was done"), "{}", again.out);
}

#[tokio::test]
async fn several_contexts_are_told_apart() {
    let (one, two) = (
        Fake::serve(|_, _| ok(json!([vm("of-one", "running")]))),
        Fake::serve(|_, _| ok(json!([vm("of-two", "running")]))),
    );
    let home = tempfile::tempdir().unwrap();
    for (name, fake) in [("one", &one), ("two", &two)] {
        let added = at_home(home.path(), &["context", "add", name, "--at", &fake.endpoint()]).await;
        assert_eq!(added.code, 0, "{}", added.err);
    }
    let names = async |args: &[&str]| at_home(home.path(), &[&["ls", "-o", "name"], args].concat()).await.out;
    assert_eq!(names(&[]).await, "of-one\n", "the first is used at once");
    assert_eq!(names(&["--context", "two"]).await, "of-two\n");
    assert_eq!(at_home(home.path(), &["context", "use", "two"]).await.code, 0);
    assert_eq!(names(&[]).await, "of-two\n");
    assert_eq!(names(&["-H", &one.endpoint()]).await, "of-one\n");
    let unknown = at_home(home.path(), &["ls", "--context", "tow"]).await;
    assert_eq!(unknown.code, 3);
    expect![[r#"
        error: there is no context tow; did you mean two?
        try: waifuctl context list
    "#]]
    .assert_eq(&unknown.err);
    let taken = at_home(home.path(), &["context", "add", "one", "--at", "unix:/x"]).await;
    assert_eq!(taken.code, 7, "{}", taken.err);
    assert_eq!(at_home(home.path(), &["ls", "--context", "one", "-H", "unix:/x"]).await.code, 2);
}

#[tokio::test]
async fn defaults_are_kept_checked_and_never_change_what_scripts_read() {
    let fake = Fake::serve(|_, _| ok(json!([vm("web-1", "running")])));
    let home = tempfile::tempdir().unwrap();
    let config = async |args: &[&str]| at_home(home.path(), &[&["config"], args].concat()).await;
    assert_eq!(config(&["set", "output", "json"]).await.code, 0);
    assert_eq!(config(&["set", "timeout", "10m"]).await.code, 0);
    assert_eq!(config(&["list"]).await.out, "output\tjson\ntimeout\t10m\n");
    assert_eq!(config(&["get", "timeout"]).await.out, "10m\n");
    let wrong = config(&["set", "timeout", "soon"]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("\"soon\" is not a span of time"), "{}", wrong.err);
    assert_eq!(config(&["get", "user"]).await.code, 3);
    let mut command = fake.command(&["ls", "--columns", "name"]);
    command.env("HOME", home.path());
    assert_eq!(ended(command).await.out, "web-1\n", "a pipe does not depend on whose machine it is");
    fs::write(home.path().join(".config/waifu/config.toml"), "[defaults]\nouptut = 1\n").unwrap();
    let broken = config(&["list"]).await;
    assert_eq!(broken.code, 2);
    assert!(broken.err.contains("config.toml") && broken.err.contains("unknown field"), "{}", broken.err);
    assert_eq!(at_home(home.path(), &["help", "contexts"]).await.code, 0, "help is there whatever is broken");
}
