//! Our words on top of a text that a person edits: comments, which are taken away again before the text is used.

/// How each of our lines begins. Longer than `#`, so that a person's own comments are never taken for ours.
const PREFIX: &str = "# waifuctl:";
/// The last of our lines.
const END: &str = "# waifuctl: ---- the text begins below this line, which is not part of it ----";

/// The text under our words.
pub(super) fn with(words: &[String], text: &str) -> String {
    let lines = words.iter().flat_map(|words| words.lines()).map(|line| format!("{PREFIX} {line}\n"));
    lines.chain([format!("{END}\n"), text.to_owned()]).collect()
}

/// The text without our words, of which some may have been deleted by hand.
pub(super) fn without(text: &str) -> &str {
    let mut rest = text;
    while rest.starts_with(PREFIX) {
        let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = below;
        if line.trim_end() == END {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_as_they_came() {
        let words = ["line 3: it is odd\nand more".to_owned(), "try again".to_owned()];
        for text in ["#cloud-config\na: 1\n", "", "# waifuctl: I write like this\n#cloud-config\n", "no end of line"] {
            let noted = with(&words, text);
            assert!(noted.starts_with("# waifuctl: line 3: it is odd\n# waifuctl: and more\n"));
            assert_eq!(without(&noted), text);
        }
        let without_end = with(&words, "#cloud-config\n").replace(&format!("{END}\n"), "");
        assert_eq!(without(&without_end), "#cloud-config\n");
        assert_eq!(without("#cloud-config\n# waifuctl: below\n"), "#cloud-config\n# waifuctl: below\n");
    }
}
