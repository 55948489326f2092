//! The plan as text, and a `resolvectl` that writes down what it is asked.

use super::*;
use expect_test::expect;
use std::{fs, os::unix::fs::symlink, path::Path};

fn registration() -> Registration {
    Registration {
        interface: "waifu0".to_owned(),
        server: "10.77.3.1".parse().unwrap(),
        cluster: "10.77.0.0/16".parse().unwrap(),
    }
}

fn spelled(steps: &[Vec<String>]) -> String {
    steps.iter().map(|step| step.join(" ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn only_our_names_are_asked_for_there() {
    expect![[r#"
        default-route waifu0 no
        domain waifu0 ~waifu.internal ~77.10.in-addr.arpa
        dnssec waifu0 no
        llmnr waifu0 no
        mdns waifu0 no
        dns waifu0 10.77.3.1"#]]
    .assert_eq(&spelled(&plan(&registration())));
    let wide = Registration { cluster: "10.76.0.0/15".parse().unwrap(), ..registration() };
    assert_eq!(plan(&wide)[1].join(" "), "domain waifu0 ~waifu.internal ~76.10.in-addr.arpa ~77.10.in-addr.arpa");
}

/// A program that notes its arguments and does `then`. A link to one that is there: another test that starts a process
/// at the wrong moment would keep a fresh one open for writing, and then it cannot be run.
fn resolvectl(dir: &Path, then: &str) -> Resolved {
    let program = dir.join("resolvectl");
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/resolved/resolvectl.sh"), &program).unwrap();
    fs::write(dir.join("then"), then).unwrap();
    Resolved::at(program)
}

fn calls(dir: &Path) -> String {
    fs::read_to_string(dir.join("calls")).unwrap_or_default()
}

#[tokio::test]
async fn resolved_is_told_and_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let resolved = resolvectl(dir.path(), "");
    for _ in 0..2 {
        fs::write(dir.path().join("calls"), "").unwrap();
        assert_eq!(resolved.register(&registration()).await.unwrap(), Registered::Done);
        assert_eq!(calls(dir.path()), format!("status\n{}\n", spelled(&plan(&registration()))));
    }
    fs::write(dir.path().join("calls"), "").unwrap();
    resolved.unregister("waifu0").await.unwrap();
    assert_eq!(calls(dir.path()), "status\nrevert waifu0\n");
}

#[tokio::test]
async fn without_resolved_there_is_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let none = Resolved::at(dir.path().join("nothing"));
    let masked = resolvectl(
        dir.path(),
        "echo 'Failed to get global data: Unit dbus-org.freedesktop.resolve1.service not found.' >&2; exit 1",
    );
    let mut hints = Vec::new();
    for resolved in [none, masked] {
        let Registered::NoResolved { hint } = resolved.register(&registration()).await.unwrap() else { panic!() };
        hints.push(hint);
        resolved.unregister("waifu0").await.unwrap();
    }
    expect!["to resolve names of VMs on this node, add `server=/waifu.internal/10.77.3.1` to its dnsmasq, or `nameserver 10.77.3.1` as the first line of /etc/resolv.conf"].assert_eq(&hints[0]);
    assert_eq!(hints[0], hints[1]);
    assert_eq!(calls(dir.path()), "status\nstatus\n", "nothing but the question whether it is there");
}

#[tokio::test]
async fn a_refusal_is_told_in_resolveds_words() {
    let dir = tempfile::tempdir().unwrap();
    let resolved = resolvectl(
        dir.path(),
        "[ $1 = status ] || { echo 'Failed to resolve interface \"waifu0\": No such device' >&2; exit 1; }",
    );
    let error = resolved.register(&registration()).await.unwrap_err().to_string();
    assert_eq!(error, "resolvectl default-route waifu0 no: Failed to resolve interface \"waifu0\": No such device");
    // It took its settings with it.
    resolved.unregister("waifu0").await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_run_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("resolvectl");
    fs::write(&program, "").unwrap();
    let error = Resolved::at(program).register(&registration()).await.unwrap_err();
    assert!(matches!(error, ResolvedError::Run(_)), "{error}");
}
