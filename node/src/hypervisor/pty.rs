//! A pseudo terminal as a stream: QEMU holds one end of it for a guest's serial port, this is the other.
//!
//! In: the path of the terminal. Out: bytes both ways on tokio's reactor, without a thread. Reading ends when QEMU does. The
//! terminal must not become the daemon's own, and must pass bytes as they are.

#![allow(unsafe_code, reason = "tokio wants a promise that a descriptor stays what it is")]

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// The kernel's number for the far ends of pseudo terminals (`Documentation/admin-guide/devices.txt`: 136 to 143).
const MAJORS: std::ops::RangeInclusive<u64> = 136..=143;

/// An open terminal.
#[derive(Debug)]
pub(super) struct Pty(AsyncFd<File>);

impl Pty {
    /// Opens it. Needs a tokio runtime.
    ///
    /// # Errors
    /// If it is not there, or is something else.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits())
            .open(path)?;
        if !MAJORS.contains(&nix::sys::stat::major(file.metadata()?.rdev())) {
            return Err(io::Error::other(format!("{} is no pseudo terminal", path.display())));
        }
        // QEMU has done so too; but whoever had the terminal in between may have left it in any state.
        let mut settings = tcgetattr(&file)?;
        cfmakeraw(&mut settings);
        tcsetattr(&file, SetArg::TCSANOW, &settings)?;
        // SAFETY: the file is open, is owned by the `AsyncFd` from here on, and nothing closes or replaces its descriptor.
        Ok(Self(unsafe { AsyncFd::register(file) }?))
    }
}

/// The other end is closed: QEMU has ended. For a reader that is the end.
fn is_end(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

impl AsyncRead for Pty {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().read(buf.initialize_unfilled())) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if is_end(&error) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Pty {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().write(bytes)) {
                Ok(Err(error)) if is_end(&error) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => return Poll::Ready(done),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_pass_as_they_are_and_end_with_the_other_side() {
        let pair = openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap();
        let mut pty = Pty::open(&path).unwrap();
        drop(pair.slave);
        let mut guest = File::from(pair.master);
        guest.write_all(b"login:\r\n\x04\x03").unwrap();
        let mut heard = [0; 10];
        pty.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"login:\r\n\x04\x03");
        pty.write_all(b"root\r\x03\x04\n").await.unwrap();
        let mut typed = [0; 8];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"root\r\x03\x04\n");
        drop(guest);
        assert_eq!(pty.read(&mut heard).await.unwrap(), 0);
        assert!(pty.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_terminal_is_not_opened() {
        assert!(Pty::open(Path::new("/dev/null")).is_err());
        assert!(Pty::open(Path::new("/dev/pts/does-not-exist")).is_err());
    }
}
