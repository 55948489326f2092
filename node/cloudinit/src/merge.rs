//! One user-data out of the cluster's default and the VM's own.
//!
//! Where there is only one, it is that one, byte for byte. Where there are both, they become the two parts of a MIME
//! multipart, the default first, each with every byte kept (base64, or as they are where they are MIME themselves).
//! The merging itself is left to the guest. For two cloud-configs cloud-init's own rule is `dict(replace)+list()+str()`
//! (22.4 `cloudinit/handlers/cloud_config.py`, `DEF_MERGERS`): of a key that both have at the top level the later
//! part's value is taken whole, so the VM's own wins. A VM that rather adds to the default says so in its own part, by
//! `merge_how` (cloud-init's documentation, "Merging user-data sections"). For that reason no `Merge-Type` header is
//! set: it would be added to what the part says, not stand in for it. Scripts of both run, the default's first.
//!
//! Vendor-data is not merged here. cloud-init keeps it apart, and user-data wins over it. Whose it is: [`crate::phone_home`].

use crate::user_data::Kind;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::borrow::Cow;
use waifud_model::cloud_init::UserData;

/// What a line of a base64 body has before it is broken (RFC 2045, section 6.8).
const BASE64_LINE: usize = 76;

/// The user-data a guest gets, if any.
#[must_use]
pub fn user_data<'a>(default: Option<&'a UserData>, own: Option<&'a UserData>) -> Option<Cow<'a, [u8]>> {
    match (default.map(UserData::as_bytes), own.map(UserData::as_bytes)) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(Cow::Borrowed(one)),
        (Some(default), Some(own)) => Some(Cow::Owned(multipart(&[("cluster-default", default), ("user-data", own)]))),
    }
}

/// Bytes as text that cloud-init takes for the same user-data: itself where it is text, else a MIME multipart of one part.
pub(crate) fn as_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Of bytes that are not text a multipart has only base64, unless they are MIME and yet not text. cloud-init
        // refuses those wherever it finds them (`convert_string` decodes MIME as UTF-8), so nothing is lost.
        Err(_) => String::from_utf8_lossy(&multipart(&[("vendor-data", bytes)])).into_owned(),
    }
}

fn multipart(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let boundary = boundary(parts);
    let mut out = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n").into_bytes();
    for (name, bytes) in parts {
        out.extend_from_slice(format!("\n--{boundary}\n").as_bytes());
        let kind = Kind::of(bytes);
        if kind == Kind::Multipart {
            // It brings its own headers. A multipart inside a multipart is walked like its parts.
            out.extend_from_slice(bytes);
            continue;
        }
        let headers = format!(
            "Content-Type: {}\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"{name}\"\n",
            content_type(kind),
        );
        out.extend_from_slice(headers.as_bytes());
        let body = BASE64.encode(bytes);
        for line in body.as_bytes().chunks(BASE64_LINE) {
            out.push(b'\n');
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
    out
}

/// A part's declared type. `text/plain` makes cloud-init look at how the part begins, as it does with user-data that is
/// not MIME, so only what does not begin with text needs more.
const fn content_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Gzip => "application/gzip",
        _ => "text/plain",
    }
}

/// A line that none of the parts has in it.
fn boundary(parts: &[(&str, &[u8])]) -> String {
    let taken = |text: &str| parts.iter().any(|(_, bytes)| bytes.windows(text.len()).any(|w| w == text.as_bytes()));
    let mut n = 0_u32;
    loop {
        let boundary = format!("waifud-part-{n}");
        if !taken(&boundary) {
            return boundary;
        }
        // Ends: every round finds another number in bytes that are finite.
        n += 1;
    }
}

#[cfg(test)]
mod tests;
