//! VMs, templates and labels of nodes out of files, against real daemons: each run through another node.

use super::support::{disk_image, text, three};
use anyhow::Result;
use std::fs;
use waifud_tests::cluster::Cluster;

const SHOP: &str = "\
template:
- name: disk
  file: disk.qcow2
vm:
- name: web-1
  template: disk
  memory: 64M
  disk: 16M
  running: false
  labels: {app: shop}
  user_data:
    packages: [nginx]
- name: web-2
  template: disk
  memory: 64M
  disk: 16M
  disks: {data: 8M}
  running: false
  protected: true
  labels: {app: shop}
";

/// Applies what is in `file`, and gives the exit status, what was done, and what was told.
fn apply(cluster: &Cluster, node: usize, file: &str, more: &[&str]) -> Result<(i32, String, String)> {
    let output = cluster.waifuctl(node, &[&["apply", "-f", file], more].concat())?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let done = String::from_utf8_lossy(&output.stdout).replace('\t', " ");
    Ok((output.status.code().unwrap_or(-1), done, told))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_changed_exported_and_pruned_out_of_files() -> Result<()> {
    let cluster = three().await?;
    let dir = tempfile::tempdir()?;
    disk_image(dir.path())?;
    let path = dir.path().join("shop.yaml");
    let file = text(&path);
    fs::write(file, SHOP)?;

    let (code, plan, told) = apply(&cluster, 1, file, &["--dry-run", "-o", "json"])?;
    assert_eq!(code, 0, "{told}");
    assert!(plan.contains("add_version") && plan.contains("web-1"), "{plan}");
    let (code, done, told) = apply(&cluster, 1, file, &[])?;
    assert_eq!(
        (code, done.as_str()),
        (0, "template disk add_version done\nvm web-1 create done\nvm web-2 create done\n"),
        "{told}"
    );
    let (code, _, told) = apply(&cluster, 2, file, &[])?;
    assert_eq!((code, told.lines().last()), (0, Some("3 unchanged")), "{told}");

    let more = SHOP.replace(
        "memory: 64M\n  disk: 16M\n  running",
        "memory: 96M\n  cpus: 2\n  disk: 32M\n  description: a shop\n  running",
    );
    fs::write(file, more.replace("[nginx]", "[nginx, redis]"))?;
    let (code, _, told) = apply(&cluster, 3, file, &[])?;
    assert_eq!(code, 0, "{told}");
    for field in ["cpus", "memory", "disk", "description", "user_data"] {
        assert!(told.contains(field), "{field} is not in: {told}");
    }
    assert!(!told.contains("redis"), "{told}");
    let (code, _, told) = apply(&cluster, 1, file, &[])?;
    assert_eq!((code, told.lines().last()), (0, Some("3 unchanged")), "{told}");

    // What is wrong is told by the cluster on trial, beside what can be done.
    fs::write(
        file,
        SHOP.replace(
            "template: disk\n  memory: 64M\n  disk: 16M\n  running",
            "template: disk\n  memory: 1K\n  running",
        ),
    )?;
    let (code, _, told) = apply(&cluster, 1, file, &[])?;
    assert!(code == 8 && told.contains("memory"), "{code} {told}");

    // Labels of nodes; a file makes none of them.
    fs::write(file, "node:\n- name: n2\n  labels: {zone: a}\n- name: n9\n  labels: {zone: a}\n")?;
    let (code, done, told) = apply(&cluster, 1, file, &[])?;
    assert_eq!((code, done.as_str()), (8, "node n2 change done\nnode n9 cannot refused\n"), "{told}");
    assert!(told.contains("waifud join"), "{told}");
    let labelled = cluster.waifuctl(3, &["node", "list", "label.zone=a", "-o", "name"])?;
    assert_eq!(String::from_utf8_lossy(&labelled.stdout), "n2\n");

    for (arguments, name) in
        [(vec!["export", "--all", "--with-user-data"], "all.yaml"), (vec!["export", "--all", "--toml"], "all.toml")]
    {
        let exported = cluster.waifuctl(2, &arguments)?;
        let path = dir.path().join(name);
        fs::write(&path, &exported.stdout)?;
        let (code, _, told) = apply(&cluster, 3, text(&path), &[])?;
        let shown = String::from_utf8_lossy(&exported.stdout);
        assert_eq!((code, told.lines().last()), (0, Some("3 unchanged")), "{told}\n{shown}");
    }

    // A protected VM stays, and the others go.
    fs::write(file, "kind: vm\nname: mail\ntemplate: disk\nmemory: 64M\nrunning: false\nlabels: {app: mail}\n")?;
    let (code, _, told) = apply(&cluster, 2, file, &["--prune", "-l", "app=shop", "--yes"])?;
    assert!(code == 8 && told.contains("protected"), "{code} {told}");
    let left = cluster.waifuctl(3, &["list", "-o", "name"])?;
    assert_eq!(String::from_utf8_lossy(&left.stdout), "mail\nweb-2\n");
    Ok(())
}
