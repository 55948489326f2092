//! "Did you mean": the nearest of several words, for what this program knows by itself. For objects of the cluster the server says it.

/// The nearest word, if one is near enough to be a slip of the fingers. Of equally near ones the first counts.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The measure and the limit of clap's own suggestions, so that commands, columns and names are treated alike.
    const NEAR: f64 = 0.7;
    let mut best = None;
    for word in known {
        let (typed, lower) = (typed.to_lowercase(), word.to_lowercase());
        // Two letters that changed places, which that measure does not see in short words.
        let slip = strsim::osa_distance(&typed, &lower) <= 1;
        let likeness = if slip { 1.0 } else { strsim::jaro(&typed, &lower) };
        if likeness > NEAR && best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, word));
        }
    }
    best.map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["name", "status", "node", "memory"];
        assert_eq!(nearest("sttaus", known), Some("status"));
        assert_eq!(nearest("NAME", known), Some("name"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("tow", ["one", "two"]), Some("two"));
    }
}
