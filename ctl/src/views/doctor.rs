//! What `doctor` saw.

use crate::output::{Cell, Column, Look, Row, Tone, printable};
use serde::Serialize;
use std::fmt::Write as _;
use waifud_api::doctor::{Finding, Verdict};

/// One thing that was looked at, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Sight {
    /// A node, `cluster`, an endpoint, or this machine.
    pub(crate) subject: String,
    pub(crate) check: String,
    pub(crate) verdict: Verdict,
    pub(crate) seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) means: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Sight {
    pub(crate) fn of(subject: &str, finding: Finding) -> Self {
        let Finding { check, verdict, seen, means, remedy } = finding;
        Self { subject: subject.to_owned(), check: check.to_string(), verdict, seen, means, remedy }
    }
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Well => Tone::Good,
        Verdict::Unknown => Tone::Plain,
        Verdict::Warning => Tone::Warn,
        Verdict::Wrong => Tone::Bad,
    }
}

impl Row for Sight {
    const COLUMNS: &'static [Column] = &[
        Column::text("SUBJECT"),
        Column::text("CHECK"),
        Column::text("VERDICT"),
        Column::text("SEEN"),
        Column::wide("MEANS"),
        Column::wide("REMEDY"),
    ];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        let or_none = |text: &Option<String>| text.as_deref().unwrap_or("-").into();
        vec![
            self.subject.as_str().into(),
            self.check.as_str().into(),
            Cell { text: self.verdict.to_string(), tone: tone(self.verdict) },
            self.seen.as_str().into(),
            or_none(&self.means),
            or_none(&self.remedy),
        ]
    }

    fn name(&self) -> String {
        format!("{}/{}", self.subject, self.check)
    }
}

/// All of it, by where it was seen; what is not well with its meaning and what mends it.
pub(crate) fn page(sights: &[Sight], look: &Look) -> String {
    let width = sights.iter().map(|sight| sight.check.len()).max().unwrap_or(0);
    let (mut page, mut subject) = (String::new(), None);
    for sight in sights {
        if subject.replace(&sight.subject) != Some(&sight.subject) {
            let _ = writeln!(page, "{}", printable(&sight.subject));
        }
        let sign = match sight.verdict {
            Verdict::Well => "✓",
            Verdict::Unknown => "-",
            Verdict::Warning => "!",
            Verdict::Wrong => "✗",
        };
        let sign = tone(sight.verdict).paint(sign, look.colour);
        let _ = writeln!(page, "  {sign} {:width$}  {}", printable(&sight.check), printable(&sight.seen));
        for (lead, text) in [("", &sight.means), ("try: ", &sight.remedy)] {
            if let Some(text) = text {
                let _ = writeln!(page, "    {:width$}  {lead}{}", "", printable(text));
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Out, Terminal},
        views::vm::tests::look,
    };
    use expect_test::expect;
    use waifud_api::doctor::Check;

    #[test]
    fn a_page_says_what_mends_what_is_wrong() {
        let sights = [
            Sight::of("cluster", Finding::well(Check::Quorum, "n1 leads")),
            Sight::of("n1", Finding::unknown(Check::Clock, "no other node is heard")),
            Sight::of(
                "n1",
                Finding::wrong(Check::Libvirt, "no such socket", "no VM can be started", "systemctl start libvirtd"),
            ),
        ];
        expect![[r#"
            cluster
              ✓ quorum   n1 leads
            n1
              - clock    no other node is heard
              ✗ libvirt  no such socket
                         no VM can be started
                         try: systemctl start libvirtd
        "#]]
        .assert_eq(&page(&sights, &look(true)));
        expect![[r#"
            cluster|quorum|well|n1 leads
            n1|clock|unknown|no other node is heard
            n1|libvirt|wrong|no such socket
        "#]]
        .assert_eq(&Out::of(None, look(false), Terminal::default()).list_text(&sights).unwrap().replace('\t', "|"));
    }
}
