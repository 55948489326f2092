//! A text as a QR code on a terminal, two modules to a character.

use fast_qr::{ECL, QRBuilder, QRCode};

/// The light frame a reader needs around the code, in modules (ISO/IEC 18004).
const FRAME: usize = 4;
/// Black on white, whatever the terminal's own colours: not every reader takes an inverted code.
const BLACK_ON_WHITE: &str = "\u{1b}[38;5;16;48;5;231m";
const PLAIN: &str = "\u{1b}[0m";

/// The code as lines; none if the text is too long for any. Without colours, light is what the terminal writes with, as if
/// its background were dark.
pub(crate) fn code(text: &str, colour: bool) -> Option<String> {
    // The least redundancy: a screen is neither dirty nor torn, and large squares help more.
    let code = QRBuilder::new(text).ecl(ECL::L).build().ok()?;
    let side = code.size + 2 * FRAME;
    let line = |row: usize| {
        let half = |column| character(dark(&code, row, column) == colour, dark(&code, row + 1, column) == colour);
        let line: String = (0..side).map(half).collect();
        if colour { format!("{BLACK_ON_WHITE}{line}{PLAIN}\n") } else { line + "\n" }
    };
    Some((0..side).step_by(2).map(line).collect())
}

/// Is the module dark? Outside of the code there is none that is.
fn dark(code: &QRCode, row: usize, column: usize) -> bool {
    let inside = |n: usize| n.checked_sub(FRAME).filter(|n| *n < code.size);
    inside(row).zip(inside(column)).is_some_and(|(row, column)| code[row][column].value())
}

/// Two modules above each other, each written or left free.
const fn character(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_short_text() {
        expect![[r#"
            █████████████████████████████
            █████████████████████████████
            ████ ▄▄▄▄▄ █▀▀ ▄ █ ▄▄▄▄▄ ████
            ████ █   █ █▀▀▄▄ █ █   █ ████
            ████ █▄▄▄█ █▀▄█▀▄█ █▄▄▄█ ████
            ████▄▄▄▄▄▄▄█▄▀▄█▄█▄▄▄▄▄▄▄████
            ████  ▄ ▄█▄▄ ▀▀ ▀ ▀▄█▄▀▄▀████
            ████▀  ▀▀▀▄▄▄▄▀▀ ▀ ▄█   ▀████
            ███████▄█▄▄█▀▀██ ██ ███ ▀████
            ████ ▄▄▄▄▄ █▄▀█▄█▄█▀    █████
            ████ █   █ █ ▄  ▀ ▀▀▄▀▀▄█████
            ████ █▄▄▄█ █ ▄ ▀ ▀ ▄█▀▀██████
            ████▄▄▄▄▄▄▄█▄▄██▄████▄█▄█████
            █████████████████████████████
            █████████████████████████████
        "#]]
        .assert_eq(&code("waifu", false).unwrap());
        let coloured = code("waifu", true).unwrap();
        assert!(coloured.lines().all(|line| line.starts_with(BLACK_ON_WHITE) && line.ends_with(PLAIN)));
    }

    #[test]
    fn what_no_code_can_hold() {
        assert_eq!(code(&"x".repeat(3_000), false), None);
    }
}
