//! A text somebody is at work on: in a file that only its owner can read, and that is lost only once it is not needed any more.

use super::notes;
use crate::exit::Failure;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use tempfile::NamedTempFile;

/// See the module.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    /// What nobody wrote by hand: not worth being kept.
    given: String,
    /// Our words stand above the text.
    noted: bool,
}

impl Draft {
    /// A draft that begins with this text. `stem` is for the file's name; `given` is what the text was before somebody
    /// changed it.
    pub(super) fn new(stem: &str, text: &str, given: &str) -> Result<Self, Failure> {
        // Mode 0600 is `tempfile`'s own: user-data holds passwords.
        let file = tempfile::Builder::new().prefix(&format!("waifuctl-{stem}-")).suffix(".yaml").tempfile();
        let mut file = file.map_err(|source| Failure::Io { what: "a temporary file", source })?;
        let fault = |source| Failure::File { path: file.path().display().to_string(), source };
        file.as_file().write_all(text.as_bytes()).map_err(fault)?;
        file.flush().map_err(|source| Failure::Io { what: "a temporary file", source })?;
        Ok(Self { file, given: given.to_owned(), noted: false })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    fn fault(&self, source: io::Error) -> Failure {
        Failure::File { path: self.path().display().to_string(), source }
    }

    /// The text as it was left, without our words.
    pub(super) fn text(&self) -> Result<String, Failure> {
        // By its path: many editors put a new file in its place.
        let bytes = fs::read(self.path()).map_err(|source| self.fault(source))?;
        let text =
            String::from_utf8(bytes).map_err(|bad| self.fault(io::Error::new(io::ErrorKind::InvalidData, bad)))?;
        Ok(if self.noted { notes::without(&text).to_owned() } else { text })
    }

    /// Puts another text there, below our words if there are any.
    pub(super) fn put(&mut self, words: &[String], text: &str) -> Result<(), Failure> {
        let content = if words.is_empty() { text.to_owned() } else { notes::with(words, text) };
        fs::write(self.path(), content).map_err(|source| self.fault(source))?;
        self.noted = !words.is_empty();
        Ok(())
    }

    /// The failure, with where the text is. A text that nobody changed is not kept, nor an empty one.
    pub(super) fn keep(mut self, cause: Failure, again: impl FnOnce(&Path) -> String) -> Failure {
        match self.text() {
            Ok(text) if text == self.given || text.trim().is_empty() => return cause,
            // Without our words it can be given to --file as it is.
            Ok(text) => {
                if let Err(unwritten) = self.put(&[], &text) {
                    crate::output::stderr(&format!("warning: {unwritten}\n"));
                }
            }
            // What cannot be read as text is kept as it is.
            Err(_) => {}
        }
        let path = self.path().to_owned();
        // An editor that put a new file there may have given it other rights.
        let private = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        match private.and_then(|()| self.file.keep().map_err(|lost| lost.error)) {
            Ok((_, path)) => Failure::Kept { again: again(&path), path, cause: Box::new(cause) },
            Err(source) => {
                crate::output::stderr(&format!("warning: {}: {source}\n", path.display()));
                cause
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::Usage("no".to_owned())
    }

    #[test]
    fn what_somebody_wrote_is_kept_and_only_theirs_to_read() {
        let mut draft = Draft::new("web-1", "a: 1\n", "a: 1\n").unwrap();
        let path = draft.path().to_owned();
        assert!(path.to_str().unwrap().ends_with(".yaml"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        draft.put(&["line 1: it is odd".to_owned()], "a: 2\n").unwrap();
        assert_eq!(draft.text().unwrap(), "a: 2\n");
        let Failure::Kept { path: kept, again, .. } = draft.keep(failure(), |path| format!("edit {}", path.display()))
        else {
            panic!("it is kept")
        };
        assert_eq!((kept.clone(), again), (path.clone(), format!("edit {}", path.display())));
        assert_eq!(fs::read_to_string(&kept).unwrap(), "a: 2\n", "without our words");
        fs::remove_file(kept).unwrap();
    }

    #[test]
    fn what_nobody_wrote_is_not() {
        let draft = Draft::new("web-1", "a: 1\n", "a: 1\n").unwrap();
        let path = draft.path().to_owned();
        assert!(matches!(draft.keep(failure(), |_| String::new()), Failure::Usage(_)));
        assert!(!path.exists());
    }
}
