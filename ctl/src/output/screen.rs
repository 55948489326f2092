//! A picture on a terminal that is drawn anew in its place: lines are cut to the width, and what does not fit is counted.

use super::stdout;
use crate::exit::Failure;
use console::{Term, truncate_str};

/// What a terminal that does not tell its size is taken for: the VT100's.
const USUAL: (usize, usize) = (24, 80);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// How many lines the present picture has.
    lines: usize,
    picture: Vec<String>,
}

impl Screen {
    /// Draws `text` where the last picture was. Nothing is written where nothing has changed.
    pub(crate) fn draw(&mut self, text: &str) -> Result<(), Failure> {
        let size = Term::stdout().size_checked();
        let (height, width) = size.map_or(USUAL, |(height, width)| (height.into(), width.into()));
        let picture = fit(text, height, width);
        if picture == self.picture && self.lines > 0 {
            return Ok(());
        }
        stdout(&frame(self.lines, &picture))?;
        self.lines = picture.len();
        self.picture = picture;
        Ok(())
    }
}

/// What is written: up to where the picture began, each line and the rest of its row cleared, then what is below cleared.
fn frame(before: usize, picture: &[String]) -> String {
    let up = if before > 0 { format!("\u{1b}[{before}A\r") } else { String::new() };
    let lines: String = picture.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
    format!("{up}{lines}\u{1b}[J")
}

/// The lines that fit. The last row stays free: the cursor stands there.
fn fit(text: &str, height: usize, width: usize) -> Vec<String> {
    let lines: Vec<_> = text.lines().map(|line| truncate_str(line, width, "…").into_owned()).collect();
    let room = height.saturating_sub(1).max(2);
    if lines.len() <= room {
        return lines;
    }
    let left_out = lines.len() - (room - 1);
    let more = format!("… {left_out} more lines; a filter makes it shorter");
    let mut shown: Vec<_> = lines.into_iter().take(room - 1).collect();
    shown.push(truncate_str(&more, width, "…").into_owned());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_fits_the_terminal() {
        assert_eq!(fit("a\nbb\nccc", 24, 2), ["a", "bb", "c…"]);
        let tall: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let shown = fit(&tall, 10, 80);
        assert_eq!((shown.len(), shown[7].as_str()), (9, "line 7"));
        assert_eq!(shown[8], "… 22 more lines; a filter makes it shorter");
        // Colours take no room.
        assert_eq!(fit("\u{1b}[32mok\u{1b}[0m", 24, 2), ["\u{1b}[32mok\u{1b}[0m"]);
    }

    #[test]
    fn the_next_picture_stands_where_the_last_was() {
        assert_eq!(frame(0, &["a".to_owned()]), "a\u{1b}[K\n\u{1b}[J");
        assert_eq!(frame(3, &["b".to_owned()]), "\u{1b}[3A\rb\u{1b}[K\n\u{1b}[J");
    }
}
