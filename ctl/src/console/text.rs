//! A guest's output for a file or a pipe: its text, without what moves cursors and changes colours.
//!
//! In: bytes as they come, cut anywhere. Out: text, line feeds and tabs. A carriage return before a line feed belongs to the
//! line's end; any other begins the line anew on a screen, and here a new line.

use vte::{Parser, Perform};

/// See the module.
#[derive(Default)]
pub(super) struct Plain {
    parser: Parser,
    text: Text,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

impl Plain {
    /// The text in these bytes.
    pub(super) fn of(&mut self, bytes: &[u8]) -> String {
        self.parser.advance(&mut self.text, bytes);
        std::mem::take(&mut self.text.ready)
    }
}

#[derive(Debug, Default)]
struct Text {
    ready: String,
    /// A carriage return has come, and nothing after it.
    returned: bool,
    /// Something stands in the line.
    begun: bool,
}

impl Perform for Text {
    fn print(&mut self, c: char) {
        if std::mem::take(&mut self.returned) && std::mem::take(&mut self.begun) {
            self.ready.push('\n');
        }
        self.ready.push(c);
        self.begun = true;
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.ready.push('\n');
                (self.returned, self.begun) = (false, false);
            }
            b'\r' => self.returned = true,
            b'\t' => self.print('\t'),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_is_left() {
        let mut plain = Plain::default();
        assert_eq!(plain.of(b"\x1b[1;32mroot\x1b[0m:~# ls\r\n\x1b]0;title\x07a\tb\r\n\x07"), "root:~# ls\na\tb\n");
        assert_eq!(plain.of(b"10%\r20%\r\r\n"), "10%\n20%\n");
        assert_eq!(plain.of(b"\x1b[6"), "");
        assert_eq!(plain.of("n\u{e4}".as_bytes()), "\u{e4}", "a sequence that was cut is one all the same");
        assert_eq!(plain.of(b"\r\xff\r\n"), "\n\u{fffd}\n");
    }
}
