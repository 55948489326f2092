//! What these tests have in common: a cluster of three with a template, and requests for it.

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use waifud_api::{client::IdempotencyKey, vm::VmCreate};
use waifud_tests::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::Lab,
};

/// Three daemons that agree.
pub(crate) async fn three() -> Result<Cluster> {
    Cluster::start(Lab::plain(3)?, WITHOUT_GUESTS).await
}

/// Three daemons, and the template `disk`.
pub(crate) async fn three_with_template() -> Result<Cluster> {
    with_template(three().await?).await
}

/// The same of a cluster of three that is there.
pub(crate) async fn with_template(cluster: Cluster) -> Result<Cluster> {
    let dir = tempfile::tempdir()?;
    let image = disk_image(dir.path())?;
    let added = cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&image)])?;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    for index in 1..=3 {
        let client = cluster.client(index);
        wait("the template", async || client.template(&"disk".parse().ok()?).await.ok()).await?;
    }
    Ok(cluster)
}

/// A small disk with a partition table, which is the least that is taken for an image.
pub(crate) fn disk_image(dir: &Path) -> Result<PathBuf> {
    let raw = dir.join("disk.raw");
    std::fs::write(&raw, [])?;
    run(Command::new("truncate").args(["-s", "4M"]).arg(&raw))?;
    let mut mbr = [0u8; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    mbr[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    std::os::unix::fs::FileExt::write_all_at(&std::fs::File::options().write(true).open(&raw)?, &mbr, 0)?;
    let image = dir.join("disk.qcow2");
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&image))?;
    Ok(image)
}

/// Runs a tool that a test needs.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A path of a test is readable text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// The request for a small VM that is not started.
pub(crate) fn small(name: &str) -> VmCreate {
    let mut request = VmCreate::from_template("disk".parse().expect("a template's name"));
    request.name = Some(name.parse().expect("a VM's name"));
    request.memory = waifud_model::size::ByteSize::mib(64);
    request.disk = Some(waifud_model::size::ByteSize::mib(16));
    request.start = false;
    request
}

/// A key for one request and its repetitions.
pub(crate) fn key(text: &str) -> IdempotencyKey {
    text.parse().expect("an idempotency key")
}
