//! Words for images that were not taken in.

use crate::ports::ImportError;
use waifud_api::problem::{Problem, ProblemCode};

/// Words for a failed import. Nothing of it is left behind, and the person is told so.
pub(super) fn words(error: &ImportError) -> Problem {
    let problem = |code| Problem::new(code, error.to_string());
    match error {
        ImportError::Checksum { .. } => problem(ProblemCode::ChecksumMismatch)
            .with_remedy("get the file and its published checksum again; nothing of this one was kept"),
        ImportError::NotAnImage(_) => {
            problem(ProblemCode::BadImage).with_remedy("give a raw or a plain qcow2 image; qemu-img convert makes one")
        }
        ImportError::TooLarge(_) => problem(ProblemCode::TooLarge),
        ImportError::NoSpace { .. } => problem(ProblemCode::DiskFull)
            .with_remedy("make room on this node, or send it to another one; nothing of this one was kept"),
        ImportError::Url(_) => problem(ProblemCode::UrlNotAllowed)
            .with_remedy("give an http or https URL outside the nodes' own networks, or download it and add the file"),
        ImportError::Download(_) => problem(ProblemCode::DownloadFailed)
            .with_remedy("check the URL, or download it yourself and add the file; nothing of this one was kept"),
        ImportError::BrokenOff(_) => problem(ProblemCode::Invalid),
        ImportError::Store(_) => {
            Problem::new(ProblemCode::Internal, "the image store of this node failed; nothing of the image was kept")
                .with_remedy("look for the request id in the log of the node, or send it to another node")
        }
    }
}
