//! What became of a name, and who did what.

use super::event::{change, word};
use crate::output::{Cell, Column, Look, Row};
use waifud_api::history::{AuditEntry, ObjectHistory};

impl Row for AuditEntry {
    const COLUMNS: &'static [Column] = &[
        Column::text("WHEN"),
        Column::text("BY"),
        Column::text("ROLE"),
        Column::text("COMMAND"),
        Column::text("TO"),
        Column::text("EFFECTS"),
        Column::wide("TOKEN"),
        Column::wide("INDEX"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let effects: Vec<_> = self
            .effects
            .iter()
            .map(|effect| {
                let changes: Vec<_> = effect.changes.iter().map(change).collect();
                [vec![word(effect.kind).0.to_owned()], changes].concat().join(" ")
            })
            .collect();
        vec![
            look.since(Some(self.at)).into(),
            self.actor.to_string().into(),
            self.role.to_string().into(),
            self.command.as_str().into(),
            look.words(self.effects.iter().map(|effect| &effect.subject)).into(),
            if effects.is_empty() { "-".into() } else { effects.join("; ").into() },
            self.token.as_deref().unwrap_or("-").into(),
            self.index.to_string().into(),
        ]
    }

    fn name(&self) -> String {
        self.index.to_string()
    }
}

/// From when to when an object had the name.
pub(crate) fn life(object: &ObjectHistory) -> String {
    let from = object.created_at.map_or_else(|| "an unknown beginning".to_owned(), |at| at.to_string());
    match object.deleted_at {
        Some(to) => format!("{}: from {from} to {to}", object.subject),
        None => format!("{}: from {from} on", object.subject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Format, Out, Terminal},
        views::vm::tests::look,
    };
    use expect_test::expect;

    #[test]
    fn who_did_what_to_what() {
        let entry: AuditEntry = serde_json::from_str(
            r#"{
                "index": 812, "at": "2026-03-01T12:30:00Z", "actor": { "kind": "local", "node": "n1", "uid": 1000 },
                "role": "admin", "token": null, "command": "set_power",
                "effects": [ {
                    "subject": { "kind": "vm", "id": "ec270707-0707-4707-8707-070707070707", "name": "web-1" },
                    "kind": "changed", "changes": [ { "field": "desired", "old": "running", "new": "stopped" } ]
                } ]
            }"#,
        )
        .unwrap();
        let out = |human| Out::of(Some(Format::Table), look(human), Terminal::default());
        expect![[r#"
            WHEN   BY              ROLE   COMMAND    TO        EFFECTS
            30min  uid 1000 on n1  admin  set_power  vm/web-1  changed desired=running→stopped
        "#]]
        .assert_eq(&out(true).list_text(&[entry]).unwrap());
    }
}
