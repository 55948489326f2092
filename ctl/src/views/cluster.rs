//! The cluster as a whole: a page, not a row.

use super::node;
use crate::output::{Cell, Column, Details, Look, Row, aligned_text, printable};
use serde::Serialize;
use std::fmt::Write as _;
use waifud_api::cluster::{ClusterStatus, Member};

/// A member as a row of the page.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct MemberRow<'a>(pub(crate) &'a Member);

impl Row for MemberRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::text("NODE"),
        Column::text("STATUS"),
        Column::text("ROLE"),
        Column::number("APPLIED"),
        Column::text("VERSION"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let member = self.0;
        vec![
            member.name.to_string().into(),
            node::status(member.alive, member.since, false, look),
            member.role.to_string().into(),
            member.applied.map_or_else(|| "-".to_owned(), |index| index.to_string()).into(),
            member.version.as_deref().unwrap_or("-").into(),
        ]
    }

    fn name(&self) -> String {
        self.0.name.to_string()
    }
}

/// The page: what it is, who is in it, what needs a hand.
pub(crate) fn status(cluster: &ClusterStatus, look: &Look) -> String {
    let quorum = if cluster.quorum { "yes" } else { "NO: it answers, but takes no changes" };
    let leader = cluster.leader.as_ref().map_or_else(|| "none known".to_owned(), ToString::to_string);
    let mut page = Details::default()
        .with("cluster", cluster.id)
        .with("quorum", quorum)
        .with("leader", format!("{leader} (term {})", cluster.term))
        .with("vms", cluster.vms)
        .with("addresses", cluster.cidr)
        .with_some("ca", Some(&cluster.ca).filter(|ca| !ca.0.is_empty()))
        .with("state", format!("{} at {}", look.digest(cluster.state.digest), cluster.state.index))
        .with("answered by", &cluster.answered_by)
        .render();
    let members: Vec<_> = cluster.members.iter().map(MemberRow).collect();
    let _ = write!(page, "\n{}", aligned_text(&members, look));
    for advice in &cluster.advice {
        let _ = writeln!(page, "\n{} [{}]", printable(&advice.message), printable(&advice.code));
        if let Some(remedy) = &advice.remedy {
            let _ = writeln!(page, "try: {}", printable(remedy));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::vm::tests::look;
    use expect_test::expect;

    #[test]
    fn a_cluster_of_two_says_what_is_unsafe() {
        let cluster: ClusterStatus = serde_json::from_str(
            r#"{
                "id": "01010101-0101-4101-8101-010101010101", "cidr": "10.77.0.0/16", "answered_by": "n2",
                "quorum": false, "leader": null, "term": 3, "vms": 2,
                "members": [
                    { "name": "n1", "role": "voter", "alive": false, "since": "2026-03-01T12:48:00Z", "applied": null, "version": null },
                    { "name": "n2", "role": "learner", "alive": true, "since": null, "applied": 812, "version": "0.1.0" }
                ],
                "feature_level": 1,
                "state": { "index": 812, "digest": "9f3c21ab01cd0000000000000000000000000000000000000000000000000000" },
                "advice": [ { "code": "no_quorum", "message": "n1 is the only voter and silent", "remedy": "start n1" } ]
            }"#,
        )
        .unwrap();
        expect![[r#"
            cluster      01010101-0101-4101-8101-010101010101
            quorum       NO: it answers, but takes no changes
            leader       none known (term 3)
            vms          2
            addresses    10.77.0.0/16
            state        9f3c21ab01cd at 812
            answered by  n2

            NODE  STATUS            ROLE     APPLIED  VERSION
            n1    silent for 12min  voter          -  -
            n2    alive             learner      812  0.1.0

            n1 is the only voter and silent [no_quorum]
            try: start n1
        "#]]
        .assert_eq(&status(&cluster, &look(true)));
    }
}
