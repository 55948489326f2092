//! The key that leaves a console, and what is typed.
//!
//! In: stdin, read by a thread of its own. A read of a terminal cannot be given up, and a runtime would wait for it at the
//! end; this thread is simply left behind. Out: pieces over a bounded channel, and the end.

use bytes::Bytes;
use std::{
    fmt,
    io::{self, Read as _},
    str::FromStr,
};
use tokio::sync::mpsc;

/// What is read at once.
const CHUNK: usize = 4096;
/// Pieces that wait: a script is read as fast as the guest takes it.
const PIECES: usize = 4;

/// The key that leaves a console; none if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Escape(Option<u8>);

impl Default for Escape {
    /// Ctrl-], as telnet and `virsh console` have it.
    fn default() -> Self {
        Self(Some(0x1d))
    }
}

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let key = text.strip_prefix('^').or_else(|| {
            let (word, key) = text.split_at_checked(5)?;
            word.eq_ignore_ascii_case("ctrl-").then_some(key)
        });
        match key.map(str::as_bytes) {
            // Control characters are letters without two of their bits.
            Some(&[key]) if (b'@'..=b'_').contains(&key.to_ascii_uppercase()) => {
                Ok(Self(Some(key.to_ascii_uppercase() & 0x1f)))
            }
            _ => Err("write it like Ctrl-] or ^A, or none".to_owned()),
        }
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "Ctrl-{}", char::from(key | 0x40)),
            None => f.write_str("none"),
        }
    }
}

impl Escape {
    /// No key at all.
    pub(super) const NONE: Self = Self(None);

    /// What is to be sent of a piece, and whether the key was pressed: what comes after it is not for the guest.
    pub(super) fn split(self, mut typed: Bytes) -> (Bytes, bool) {
        match self.0.and_then(|key| typed.iter().position(|byte| *byte == key)) {
            Some(at) => (typed.split_to(at), true),
            None => (typed, false),
        }
    }

    /// Is there a key?
    pub(super) fn is_some(self) -> bool {
        self.0.is_some()
    }
}

/// What is typed, or comes out of a file; an error once, and then the end.
pub(super) fn typed() -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut chunk = vec![0; CHUNK];
        loop {
            let piece = match stdin.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&chunk[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_and_show() {
        for (text, shown) in [
            ("^]", "Ctrl-]"),
            ("ctrl-a", "Ctrl-A"),
            ("Ctrl-A", "Ctrl-A"),
            ("^@", "Ctrl-@"),
            ("^^", "Ctrl-^"),
            ("none", "none"),
        ] {
            assert_eq!(text.parse::<Escape>().unwrap().to_string(), shown, "{text}");
        }
        assert_eq!("^]".parse(), Ok(Escape::default()));
        for bad in ["", "]", "^", "^]]", "ctrl", "ctrl-", "^1", "^é"] {
            assert!(bad.parse::<Escape>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_comes_after_the_key_stays_here() {
        let escape = Escape::default();
        assert_eq!(escape.split(Bytes::from_static(b"ls\r")), (Bytes::from_static(b"ls\r"), false));
        assert_eq!(escape.split(Bytes::from_static(b"ls\x1dq")), (Bytes::from_static(b"ls"), true));
        assert_eq!(Escape(None).split(Bytes::from_static(b"\x1d")), (Bytes::from_static(b"\x1d"), false));
    }
}
