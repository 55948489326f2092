//! Templates that must not be taken, each refused with its cause, and nothing left of it.

use super::support::{disk_image, run, text, three};
use anyhow::Result;
use std::{fs, path::Path, process::Command, time::Duration};
use waifud_tests::cluster::Cluster;

/// What the image store of a host holds, half-finished files too.
fn stored(cluster: &Cluster, index: usize) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cluster.host(index).path("/var/lib/waifud/images")) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn refused(cluster: &Cluster, arguments: &[&str], expected: &[&str]) -> Result<()> {
    let before = stored(cluster, 1);
    let output = cluster.waifuctl(1, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was to be refused");
    for word in expected {
        assert!(said.to_lowercase().contains(word), "{arguments:?}: {word:?} is not in: {said}");
    }
    assert_eq!(stored(cluster, 1), before, "{arguments:?} left something behind");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_images_and_bad_requests() -> Result<()> {
    let cluster = three().await?;
    let dir = tempfile::tempdir()?;
    let good = disk_image(dir.path())?;
    let at = |name: &str| dir.path().join(name);

    let backed = at("backed.qcow2");
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&good).arg(&backed))?;
    let cut = at("cut.qcow2");
    let bytes = fs::read(&good)?;
    fs::write(&cut, &bytes[..bytes.len() / 2])?;
    let prose = at("prose.txt");
    fs::write(&prose, "this is no image\n".repeat(1000))?;
    let empty = at("empty");
    fs::write(&empty, "")?;

    let add =
        |file: &Path| -> Vec<String> { ["template", "add", "bad", "--file", text(file)].map(str::to_owned).to_vec() };
    let check = |file: &Path, expected: &[&str]| {
        let arguments = add(file);
        refused(&cluster, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), expected)
    };
    check(&backed, &["backing file"])?;
    check(&cut, &["cut off"])?;
    check(&prose, &["neither qcow2"])?;
    check(&empty, &["empty"])?;
    let wrong = "00".repeat(32);
    refused(&cluster, &["template", "add", "bad", "--file", text(&good), "--sha256", &wrong], &["sha-256"])?;
    refused(&cluster, &["template", "add", "../x", "--file", text(&good)], &["../x"])?;

    let server = Server::start()?;
    let url = |path: &str| format!("http://{}/{path}", server.address);
    let _served = server.serve(&cluster)?;
    refused(&cluster, &["template", "add", "bad", "--url", &url("missing"), "--sha256", &wrong], &["404"])?;
    refused(&cluster, &["template", "add", "bad", "--url", "ftp://x/y", "--sha256", &wrong], &["ftp"])?;

    // Nothing of all this made a template.
    let listed = cluster.waifuctl(1, &["template", "list", "-o", "name"])?;
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "");

    let added = cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&good)])?;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    for (arguments, expected) in [
        (vec!["create", "-t", "disk", "-n", "../x"], "../x"),
        (vec!["create", "-t", "disk", "-n", "zero", "-m", "0"], "memory"),
        (vec!["create", "-t", "disk", "-n", "huge", "-m", "9000G"], "memory"),
        (vec!["create", "-t", "dsik", "-n", "typo"], "disk"),
        (vec!["create", "-t", "disk", "-n", "tiny", "-d", "1M"], "disk"),
    ] {
        let output = cluster.waifuctl(1, &arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {expected:?} is not in: {said}");
    }
    let listed = cluster.waifuctl(1, &["list", "-o", "name"])?;
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "");
    Ok(())
}

/// A template that was added on one node is had by another that needs it, verified.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_fetches_what_it_needs() -> Result<()> {
    let cluster = super::support::three_with_template().await?;
    let mut request = super::support::small("far");
    request.node = Some("n3".parse()?);
    cluster.client(1).create_vm(&request, &super::support::key("far")).await?;
    waifud_tests::cluster::wait("the image on n3", async || {
        let here = stored(&cluster, 3);
        let whole = here.iter().find(|name| name.ends_with(".qcow2"))?;
        stored(&cluster, 1).contains(whole).then_some(())
    })
    .await
}

/// A disk that fills while an image comes in: the cause is named, nothing is left, and there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named() -> Result<()> {
    let cluster = three().await?;
    let dir = tempfile::tempdir()?;
    let good = disk_image(dir.path())?;
    let images = "/var/lib/waifud/images";
    cluster.host(1).exec("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", images])?;
    let output = cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&good)])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("space"), "{said}");
    let left = cluster.host(1).exec("find", [images, "-type", "f"])?;
    assert_eq!(left.trim(), "", "nothing is left of the try");
    cluster.host(1).exec("umount", [images])?;
    let again = cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&good)])?;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    Ok(())
}

/// A web server inside a host: one file that is missing, and one that never goes on.
struct Server {
    address: &'static str,
}

impl Server {
    fn start() -> Result<Self> {
        Ok(Self { address: "127.0.0.1:8099" })
    }

    fn serve(&self, cluster: &Cluster) -> Result<waifud_tests::lab::Process> {
        let root = cluster.host(1).path("/run/waifud/www");
        fs::create_dir_all(&root)?;
        let process = cluster
            .host(1)
            .spawn("python3", ["-m", "http.server", "8099", "--bind", "127.0.0.1", "--directory", "/run/waifud/www"])?;
        waifud_tests::lab::eventually("the web server", Duration::from_secs(20), || {
            cluster.host(1).exec("curl", ["-s", "http://127.0.0.1:8099/"]).ok()
        })?;
        Ok(process)
    }
}

/// A server that accepts and says nothing is given up after the configured time.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_given_up() -> Result<()> {
    let settings = format!("{}download_timeout = \"1s\"\n", waifud_tests::cluster::WITHOUT_GUESTS);
    let cluster = Cluster::start(waifud_tests::lab::Lab::plain(1)?, &settings).await?;
    const HANG: &str = "import socket,time\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
                        s.bind(('127.0.0.1',8098))\ns.listen(5)\nc=[]\nwhile True: c.append(s.accept())\n";
    let _hanging = cluster.host(1).spawn("python3", ["-c", HANG])?;
    waifud_tests::lab::eventually("the server", Duration::from_secs(20), || {
        let probe = "import socket; socket.create_connection(('127.0.0.1',8098),1)";
        cluster.host(1).exec("python3", ["-c", probe]).ok()
    })?;
    let wrong = "00".repeat(32);
    refused(
        &cluster,
        &["template", "add", "bad", "--url", "http://127.0.0.1:8098/x", "--sha256", &wrong],
        &["did not go on"],
    )
}
