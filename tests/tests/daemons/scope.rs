//! A team with a token of its own: it works with its VMs through any node, and there are no others.

use super::{
    openapi::authority,
    support::{text, three_with_template},
};
use anyhow::{Context, Result};
use std::{fs, path::Path};
use waifud_tests::{
    cluster::{Cluster, wait},
    lab::program,
};

/// What a command line ended with, and what it said.
#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

/// The team's `waifuctl`, over HTTPS to one node, in whose directories `files` are.
fn team(cluster: &Cluster, node: usize, files: &Path, arguments: &[&str]) -> Result<Told> {
    let host = cluster.host(node);
    let url = format!("https://{}:7443", host.address());
    let (token, ca) = (files.join("token"), files.join("ca.pem"));
    let mut waifuctl = host.command(program("waifuctl")?);
    waifuctl.args(["-H", &url, "--token-file", text(&token), "--ca-file", text(&ca)]).args(arguments);
    told(waifuctl.output()?)
}

fn admin(cluster: &Cluster, arguments: &[&str]) -> Result<Told> {
    told(cluster.waifuctl(1, arguments)?)
}

fn told(output: std::process::Output) -> Result<Told> {
    let code = output.status.code().context("it was killed")?;
    Ok(Told { code, out: String::from_utf8(output.stdout)?, err: String::from_utf8(output.stderr)? })
}

/// The arguments that make a small VM.
fn making<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let all = ["create", "-t", "disk", "-n", name, "-m", "64M", "-d", "16M", "--no-start"];
    all.iter().chain(more).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_works_with_its_vms_and_knows_of_no_others() -> Result<()> {
    let cluster = three_with_template().await?;
    let dir = tempfile::tempdir()?;
    let made = admin(&cluster, &["token", "create", "--role", "operator", "--scope", "team=web", "--for", "team web"])?;
    assert_eq!(made.code, 0, "{made:?}");
    fs::write(dir.path().join("token"), made.out.trim())?;
    let identity = cluster.host(1).path("/var/lib/waifud/cluster/identity");
    fs::write(dir.path().join("ca.pem"), authority(&identity)?)?;
    let listed = admin(&cluster, &["token", "list", "--columns", "role,scope,for"])?;
    assert_eq!(listed.out, "operator\tteam=web\tteam web\n", "{listed:?}");
    let listed = admin(&cluster, &["token", "list", "-o", "json"])?;
    assert!(listed.out.replace([' ', '\n'], "").contains(r#""scope":{"team":"web"}"#), "{listed:?}");
    let refused = admin(&cluster, &["token", "create", "--role", "admin", "--scope", "team=web"])?;
    assert!(refused.code != 0 && refused.err.contains("scope"), "{refused:?}");

    // The owner of each is not the node that is asked.
    let theirs = admin(&cluster, &making("db-1", &["--label", "team=db", "--node", "n2"]))?;
    assert_eq!(theirs.code, 0, "{theirs:?}");
    let team = |node, arguments: &[&str]| team(&cluster, node, dir.path(), arguments);
    wait("the token on every node", async || {
        (1..=3).all(|node| team(node, &["list"]).is_ok_and(|told| told.code == 0)).then_some(())
    })
    .await?;
    let refused = team(1, &making("web-1", &["--node", "n3"]))?;
    assert!(refused.code != 0 && refused.err.contains("team=web"), "{refused:?}");
    let made = team(1, &making("web-1", &["--node", "n3", "--label", "team=web"]))?;
    assert_eq!(made.code, 0, "{made:?}");

    for node in 1..=3 {
        let seen = || team(node, &["list", "-o", "name"]);
        wait("the team's VM", async || seen().is_ok_and(|told| told.out == "web-1\n").then_some(())).await?;
        let events = team(node, &["events", "--since", "1h", "--about", "vm", "-o", "json"])?;
        assert!(events.code == 0 && events.out.contains("web-1") && !events.out.contains("db-1"), "{events:?}");
        // Word for word what is said of one that is nowhere.
        for verb in [&["show"][..], &["stop"], &["delete", "--yes"], &["logs"], &["label"], &["history"]] {
            let about = |name: &str| {
                let object = if verb == ["history"] { format!("vm/{name}") } else { name.to_owned() };
                let more: &[&str] = if verb == ["label"] { &["a=b"] } else { &[] };
                team(node, &[verb, &[object.as_str()], more].concat())
            };
            let (outside, nowhere) = (about("db-1")?, about("qq-1")?);
            assert_ne!(outside.code, 0, "{verb:?} {outside:?}");
            let said = nowhere.err.replace("qq-1", "db-1");
            assert_eq!((outside.code, outside.err), (nowhere.code, said), "{verb:?}");
        }
    }
    let refused = team(2, &["label", "web-1", "team=db"])?;
    assert!(refused.code != 0 && refused.err.contains("team=web"), "{refused:?}");
    for arguments in [
        &["label", "web-1", "tier=1"][..],
        &["rename", "web-1", "web-2"],
        &["template", "list"],
        &["node", "list"],
        &["cluster", "status"],
        &["delete", "web-2", "--yes", "--no-wait"],
    ] {
        let told = team(2, arguments)?;
        assert_eq!(told.code, 0, "{arguments:?} {told:?}");
    }
    for arguments in [&["template", "delete", "disk", "--yes"][..], &["node", "cordon", "n1"], &["token", "list"]] {
        let told = team(2, arguments)?;
        assert_ne!(told.code, 0, "{arguments:?} {told:?}");
    }
    let left = admin(&cluster, &["show", "db-1", "-o", "json"])?;
    assert!(left.out.replace(' ', "").contains("\"generation\":1"), "{left:?}");
    Ok(())
}
