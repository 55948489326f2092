//! Looks at the bytes of an image before it gets a name. In: a file; out: what it is, or the reason why it is refused. Two
//! looks: ours at the header and the tables, then `qemu-img`'s own in its cage. Changes nothing.

use super::{
    ImageError,
    detect::detect,
    qcow2::Header,
    qemu_img::{Output, QemuImg},
    refusal::{LookError, Refusal},
};
use serde::Deserialize;
use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};
use waifud_model::{size::ByteSize, template::ImageFormat};

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inspected {
    /// How its bytes are to be read.
    pub(super) format: ImageFormat,
    /// Size of the disk a guest sees.
    pub(super) virtual_size: ByteSize,
}

/// Looks at `path`.
///
/// # Errors
/// [`ImageError::Refused`] if it must not be used, others if it cannot be told.
pub(super) async fn inspect(tool: &QemuImg, path: &Path, max_virtual: ByteSize) -> Result<Inspected, ImageError> {
    let seen = look(path.to_owned(), max_virtual).await?;
    if seen.format == ImageFormat::Qcow2 {
        let path = path.to_str().ok_or(Refusal::NotAnImage { why: "its path is not UTF-8" })?;
        second_look(tool, path, seen).await?;
    }
    Ok(seen)
}

/// Our own look, on a thread that may block.
async fn look(path: PathBuf, max_virtual: ByteSize) -> Result<Inspected, ImageError> {
    let task = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || look_at(&File::open(path)?, max_virtual))
    };
    match task.await {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(LookError::Refused(refusal))) => Err(refusal.into()),
        Ok(Err(LookError::Read(source))) => Err(ImageError::Io { doing: "read", path, source }),
        Err(source) => Err(ImageError::Io { doing: "read", path, source: source.into() }),
    }
}

pub(super) fn look_at(file: &File, max_virtual: ByteSize) -> Result<Inspected, LookError> {
    let format = detect(file)?;
    let virtual_size = match format {
        ImageFormat::Qcow2 => {
            let header = Header::read(file)?;
            header.check(max_virtual)?;
            header.check_tables(file)?;
            ByteSize::bytes(header.virtual_size)
        }
        ImageFormat::Raw | ImageFormat::Iso => {
            let size = ByteSize::bytes(file.metadata()?.len());
            if size > max_virtual {
                return Err(Refusal::TooLarge { size, max: max_virtual }.into());
            }
            size
        }
    };
    Ok(Inspected { format, virtual_size })
}

/// `qemu-img info --output=json`, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    virtual_size: u64,
    backing_filename: Option<String>,
}

/// `qemu-img check --output=json`, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Check {
    corruptions: u64,
    check_errors: u64,
}

/// QEMU must open the image and see the same as we did; otherwise one of the two was deceived.
async fn second_look(tool: &QemuImg, path: &str, seen: Inspected) -> Result<(), ImageError> {
    let output = run(tool, "info", path).await?;
    if !output.status.success() {
        return Err(Refusal::Corrupt(format!("QEMU does not open it: {}", said(&output.said, path))).into());
    }
    let info: Info = output.json("info")?;
    if let Some(name) = info.backing_filename {
        return Err(Refusal::BackingFile(name).into());
    }
    if info.format != "qcow2" || info.virtual_size != seen.virtual_size.as_bytes() {
        return Err(Refusal::Corrupt("QEMU reads its header differently".to_owned()).into());
    }
    let output = run(tool, "check", path).await?;
    // Exit 3 means leaked clusters only: space wasted, nothing wrong (qemu-img(1)).
    if matches!(output.status.code(), Some(0 | 3)) {
        return Ok(());
    }
    let check: Check = output.json("check").unwrap_or_default();
    let why = match check.corruptions + check.check_errors {
        0 => said(&output.said, path),
        errors => format!("{errors} errors in its tables"),
    };
    Err(Refusal::Corrupt(why).into())
}

async fn run(tool: &QemuImg, command: &str, path: &str) -> Result<Output, ImageError> {
    let output = tool.run(command, &["-f", "qcow2", "--output=json", path]).await?;
    match output.status.signal() {
        // Out of memory or of CPU time, or crashed on what it read.
        Some(_) => Err(Refusal::Bomb("QEMU's own tools die of them").into()),
        None => Ok(output),
    }
}

/// QEMU's words without the temporary path, which means nothing to whoever brought the image.
fn said(text: &str, path: &str) -> String {
    text.replace(path, "FILE").replace("qemu-img: ", "").chars().take(300).collect()
}

#[cfg(test)]
mod tests;
