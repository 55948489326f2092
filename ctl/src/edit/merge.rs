//! Two changes to one text, made from the same base: put together where they do not touch, marked where they do.

use diffy::{ConflictStyle, MergeOptions, create_patch};

/// A text with both changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) text: String,
    /// No two changes were about the same lines.
    pub(super) clean: bool,
}

/// How the merge names the two sides, and how a person knows them.
const SIDES: [(&str, &str); 2] =
    [("<<<<<<< ours", "<<<<<<< your text"), (">>>>>>> theirs", ">>>>>>> the cluster's text")];

/// Puts both changes together.
pub(super) fn merge(base: &str, mine: &str, theirs: &str) -> Merged {
    let mut options = MergeOptions::new();
    options.set_conflict_style(ConflictStyle::Merge);
    match options.merge(base, mine, theirs) {
        Ok(text) => Merged { text, clean: true },
        Err(marked) => {
            let named = |line: &str| {
                let bare = line.trim_end();
                SIDES
                    .iter()
                    .find(|(ours, _)| *ours == bare)
                    .map_or_else(|| line.to_owned(), |(_, name)| format!("{name}\n"))
            };
            Merged { text: marked.split_inclusive('\n').map(named).collect(), clean: false }
        }
    }
}

/// True while a merge has not been finished by hand.
pub(super) fn is_marked(text: &str) -> bool {
    text.lines().any(|line| SIDES.iter().any(|(_, name)| line == *name))
}

/// What changed from one text to the other, a line each.
pub(super) fn difference(before: &str, after: &str) -> Vec<String> {
    let patch = create_patch(before, after).to_string();
    // The first two lines name files that there are not.
    patch.lines().skip_while(|line| line.starts_with("---") || line.starts_with("+++")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const BASE: &str = "#cloud-config\nhostname: a\n\npackages:\n  - vim\n\nruncmd:\n  - date\n";

    #[test]
    fn changes_apart_are_put_together() {
        let mine = BASE.replace("vim", "nano");
        let theirs = BASE.replace("hostname: a", "hostname: b");
        let merged = merge(BASE, &mine, &theirs);
        assert_eq!(merged, Merged { text: mine.replace("hostname: a", "hostname: b"), clean: true });
        assert!(!is_marked(&merged.text));
    }

    #[test]
    fn changes_to_the_same_line_are_marked() {
        let merged = merge(BASE, &BASE.replace("vim", "nano"), &BASE.replace("vim", "emacs"));
        assert!(!merged.clean && is_marked(&merged.text));
        expect![[r##"
            #cloud-config
            hostname: a

            packages:
            <<<<<<< your text
              - nano
            =======
              - emacs
            >>>>>>> the cluster's text

            runcmd:
              - date
        "##]]
        .assert_eq(&merged.text);
        expect![[r#"
            @@ -2,7 +2,7 @@
             hostname: a

             packages:
            -  - vim
            +  - emacs

             runcmd:
               - date"#]]
        .assert_eq(&difference(BASE, &BASE.replace("vim", "emacs")).join("\n"));
    }
}
