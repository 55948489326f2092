//! What a terminal would show of all that a guest has written: what a newcomer is sent first.
//!
//! In: the guest's bytes. Out: the screen, drawn from nothing, or its lines as text. A list of the last bytes would be
//! simpler and wrong: it begins in the middle of an escape sequence or of an editor's screen, and holds questions to the
//! terminal ("where is your cursor?") that every newcomer's terminal would answer once more, into the guest.
//!
//! The guest is not trusted: whatever it writes, this does not end the console. A parser that panics is thrown away.

use std::{
    num::NonZeroU16,
    panic::{AssertUnwindSafe, catch_unwind},
};
use waifud_api::console::Size;

/// Narrower or lower than this no program draws; the parser has panicked on a single line.
const LEAST: u16 = 2;
/// Larger than any wall of monitors; it bounds what a screen costs in memory: 5 MiB.
const MOST: Size = Size { rows: 200, cols: 500 };
/// What guests take for granted of a serial port, which cannot say its size.
const USUAL: Size = Size { rows: 24, cols: 80 };

/// A screen.
pub(super) struct Screen {
    parser: vt100::Parser,
    size: Size,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self { parser: parser(USUAL), size: USUAL }
    }
}

fn parser(size: Size) -> vt100::Parser {
    let (rows, cols) = numbers(size);
    vt100::Parser::new(rows, cols, 0)
}

fn numbers(size: Size) -> (NonZeroU16, NonZeroU16) {
    // Sizes are at least `LEAST` by then.
    let number = |n: u16| NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN);
    (number(size.rows), number(size.cols))
}

impl Screen {
    /// The guest wrote this.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.guarded(|parser, _| parser.process(bytes));
    }

    /// Whoever writes has a terminal of this size.
    pub(super) fn resize(&mut self, Size { rows, cols }: Size) {
        self.size = Size { rows: rows.clamp(LEAST, MOST.rows), cols: cols.clamp(LEAST, MOST.cols) };
        self.guarded(|parser, size| {
            let (rows, cols) = numbers(size);
            parser.set_size(rows, cols);
        });
    }

    /// What draws it on a terminal in any state: colours, cursor and the modes of its keys included.
    pub(super) fn drawn(&mut self) -> Vec<u8> {
        self.guarded(|parser, _| {
            let screen = parser.screen();
            // As a guest's program would go to the second screen, so that it can come back from it.
            let mut drawn = if screen.alternate_screen() { "\x1b[?1049h" } else { "" }.to_owned();
            drawn += &screen.state_formatted();
            drawn.into_bytes()
        })
        .unwrap_or_default()
    }

    /// The same for a terminal that shows something else already, which stays above where that is possible: while the guest
    /// writes line after line. What a program drew by places on the screen needs the whole screen.
    pub(super) fn appended(&mut self) -> Vec<u8> {
        self.guarded(|parser, _| appended(parser.screen())).flatten().unwrap_or_else(|| self.drawn())
    }

    /// Its lines, without those at the end that are empty.
    pub(super) fn text(&mut self) -> Vec<u8> {
        let text = self.guarded(|parser, _| parser.screen().contents()).unwrap_or_default();
        let text = text.trim_end_matches(['\n', ' ']);
        if text.is_empty() { Vec::new() } else { format!("{text}\n").into_bytes() }
    }

    fn guarded<T>(&mut self, f: impl FnOnce(&mut vt100::Parser, Size) -> T) -> Option<T> {
        let (parser_in_use, size) = (&mut self.parser, self.size);
        let done = catch_unwind(AssertUnwindSafe(|| f(parser_in_use, size)));
        done.map_err(|_| {
            // The panic hook has told where. What is half done is not used again.
            tracing::warn!("a guest's output broke its screen, which begins anew");
            self.parser = parser(size);
        })
        .ok()
    }
}

fn appended(screen: &vt100::Screen) -> Option<Vec<u8>> {
    let ((row, col), (_, cols)) = (screen.cursor_position(), screen.size());
    let mut below = screen.rows(0, cols.get()).skip(usize::from(row) + 1);
    if screen.alternate_screen() || below.any(|row| !row.trim_end().is_empty()) {
        return None;
    }
    // A line that is longer than the screen is wide stays one line: the newcomer's terminal may be wider.
    let lines = screen.contents_formatted_basic();
    let last = (0..row).filter(|row| !screen.row_wrapped(*row)).count();
    let lines: Vec<&str> = lines.split('\n').take(last + 1).collect();
    let mut drawn = format!("\x1b[m\r{}", lines.join("\r\n"));
    if row == 0 || !screen.row_wrapped(row - 1) {
        drawn += "\r";
        if col > 0 {
            drawn += &format!("\x1b[{col}C");
        }
    }
    drawn += &screen.attributes_formatted();
    drawn += &screen.input_mode_formatted();
    drawn += if screen.hide_cursor() { "\x1b[?25l" } else { "\x1b[?25h" };
    Some(drawn.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `newcomer` would see.
    fn seen(bytes: &[u8]) -> String {
        let mut terminal = parser(USUAL);
        // In any state: in the middle of another program's colours and line drawing.
        terminal.process(b"\x1b[31;1mgarbage\x1b[?25l\x1b[5;5H");
        terminal.process(bytes);
        terminal.screen().contents()
    }

    #[test]
    fn a_newcomer_sees_what_is_there_and_is_asked_nothing() {
        let mut screen = Screen::default();
        screen.write(b"login: root\r\n\x1b[32mroot@web-1\x1b[0m:~# \x1b[6n\x1b[c");
        let drawn = screen.drawn();
        assert_eq!(seen(&drawn).trim_end(), "login: root\nroot@web-1:~#");
        let text = String::from_utf8(drawn).unwrap();
        assert!(
            !text.contains("\x1b[6n") && !text.contains("\x1b[c"),
            "the newcomer's terminal would answer: {text:?}"
        );
        assert_eq!(screen.text(), b"login: root\nroot@web-1:~#\n");
    }

    #[test]
    fn lines_are_appended_to_what_the_newcomer_has() {
        let mut screen = Screen::default();
        screen.write(b"\x1b[2J\x1b[Hone\r\n\x1b[31mtwo\x1b[0m\r\nroot# ");
        let mut terminal = parser(USUAL);
        terminal.process(b"mine\r\n");
        terminal.process(&screen.appended());
        terminal.process(b"ls");
        assert_eq!(terminal.screen().contents(), "mine\none\ntwo\nroot# ls");
        assert_eq!(terminal.screen().cursor_position(), (3, 8));

        // A line that is broken into three is one again where there is room, and typed on at its end.
        screen.write(format!("\r\n{}", "x".repeat(200)).as_bytes());
        let mut wide = parser(Size { rows: 24, cols: 300 });
        wide.process(&screen.appended());
        wide.process(b"END");
        assert_eq!(wide.screen().contents(), format!("one\ntwo\nroot# \n{}END", "x".repeat(200)));
    }

    #[test]
    fn what_was_drawn_by_places_is_drawn_there() {
        let mut screen = Screen::default();
        screen.write(b"\x1b[2J\x1b[10;10H[ Yes ]\x1b[12;1Hpress Enter\x1b[10;11H");
        assert_eq!(screen.appended(), screen.drawn());
    }

    #[test]
    fn a_sequence_that_is_cut_in_two_does_not_garble() {
        let mut screen = Screen::default();
        screen.write(b"one\r\n\x1b[3");
        assert_eq!(seen(&screen.drawn()).trim_end(), "one");
        screen.write(b"1mtwo");
        assert_eq!(seen(&screen.drawn()).trim_end(), "one\ntwo");
    }

    #[test]
    fn an_editor_is_drawn_on_the_second_screen() {
        let mut screen = Screen::default();
        screen.write(b"shell\r\n\x1b[?1049h\x1b[2J\x1b[Htext of a file\x1b[24;1H-- INSERT --");
        let drawn = screen.drawn();
        assert!(drawn.starts_with(b"\x1b[?1049h"));
        assert!(seen(&drawn).starts_with("text of a file\n"));
        screen.write(b"\x1b[?1049l");
        assert_eq!(seen(&screen.drawn()).trim_end(), "shell");
    }

    #[test]
    fn any_size_is_bounded() {
        let mut screen = Screen::default();
        for (rows, cols) in [(0, 0), (1, 1), (u16::MAX, u16::MAX), (24, 80)] {
            screen.resize(Size { rows, cols });
            screen.write("一二三 wide and wider\r\n".repeat(300).as_bytes());
            assert!(!screen.drawn().is_empty());
        }
        assert_eq!(screen.size, USUAL);
    }

    proptest! {
        #[test]
        fn no_output_ends_it(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..40),
                    "\u{1b}\\[[0-9;?]{0,6}[A-Za-z@`]".prop_map(String::into_bytes),
                    "[a-z一-十]{0,30}".prop_map(String::into_bytes),
                ],
                0..40,
            ),
            sizes in prop::collection::vec((0u16..60, 0u16..200), 0..6),
        ) {
            let mut screen = Screen::default();
            let mut sizes = sizes.into_iter();
            for piece in pieces {
                screen.write(&piece);
                if let Some((rows, cols)) = sizes.next() {
                    screen.resize(Size { rows, cols });
                }
                let _ = (screen.drawn(), screen.appended(), screen.text());
            }
            screen.resize(USUAL);
            screen.write(b"\x1bc\x1b[2J\x1b[Hstill here");
            prop_assert!(screen.text().starts_with(b"still here"));
        }
    }
}
