//! "Did you mean": the nearest existing name to one that does not exist.
//!
//! In: the wrong name and all names of that kind. Out: at most one, and only if it is near enough to be a slip of the
//! hand. Must not guess what the command meant: the request fails either way.

/// Slips that are forgiven: one in a short name, and one more for every four further letters, three at the most.
fn forgiven(len: usize) -> usize {
    (len / 4).clamp(1, 3)
}

/// The name that is nearest to `wrong`; the first in order among equals.
pub(crate) fn nearest<T: AsRef<str>>(wrong: &str, names: impl IntoIterator<Item = T>) -> Option<T> {
    let limit = forgiven(wrong.chars().count());
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(wrong, name.as_ref()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.as_ref().cmp(right.as_ref())))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["db-1", "web-1", "web-2", "builder"];
        assert_eq!(nearest("wbe-1", names), Some("web-1"));
        assert_eq!(nearest("web", names), None);
        assert_eq!(nearest("web-", names), Some("web-1"));
        assert_eq!(nearest("bulider", names), Some("builder"));
        assert_eq!(nearest("mail", names), None);
        assert_eq!(nearest("", names), None);
    }
}
