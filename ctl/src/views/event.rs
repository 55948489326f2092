//! Events.

use crate::output::{Cell, Column, Look, Row, Tone};
use waifud_api::{
    event::{Change, Event},
    time::Time,
};
use waifud_model::{event::EventKind, time::Timestamp};

impl Row for Event {
    const COLUMNS: &'static [Column] = &[
        Column::text("WHEN"),
        Column::text("WHAT"),
        Column::text("TO"),
        Column::text("BY"),
        Column::text("CHANGES"),
        Column::wide("EVENT"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let changes: Vec<_> = self.changes.iter().map(change).collect();
        vec![
            look.since(Some(self.at)).into(),
            kind(self.kind),
            self.subject.to_string().into(),
            self.actor.to_string().into(),
            if changes.is_empty() { "-".into() } else { changes.join(" ").into() },
            self.id.to_string().into(),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

pub(super) const fn word(kind: EventKind) -> (&'static str, Tone) {
    match kind {
        EventKind::Created => ("created", Tone::Plain),
        EventKind::Changed => ("changed", Tone::Plain),
        EventKind::Deleting => ("deleting", Tone::Plain),
        EventKind::Deleted => ("deleted", Tone::Plain),
        EventKind::Started => ("started", Tone::Good),
        EventKind::Stopped => ("stopped", Tone::Plain),
        EventKind::Crashed => ("crashed", Tone::Bad),
        EventKind::Failed => ("failed", Tone::Bad),
        EventKind::Opened => ("opened", Tone::Plain),
    }
}

fn kind(kind: EventKind) -> Cell {
    let (text, tone) = word(kind);
    Cell { text: text.to_owned(), tone }
}

/// `desired=running→stopped`, `cpus=2`, `label.env=prod→`.
pub(super) fn change(change: &Change) -> String {
    let shown = |value: &Option<String>| value.as_deref().map(|value| moment(&change.field, value)).unwrap_or_default();
    match &change.old {
        None => format!("{}={}", change.field, shown(&change.new)),
        old => format!("{}={}→{}", change.field, shown(old), shown(&change.new)),
    }
}

/// Moments are recorded in milliseconds, which nobody reads.
fn moment(field: &str, value: &str) -> String {
    match value.parse() {
        Ok(at) if field.ends_with("_at") => Time(Timestamp(at)).to_string(),
        _ => value.to_owned(),
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
    fn moments_are_shown_as_such() {
        let shown = |field: &str, old: Option<&str>, new: Option<&str>| {
            change(&Change { field: field.to_owned(), old: old.map(str::to_owned), new: new.map(str::to_owned) })
        };
        assert_eq!(shown("expires_at", None, Some("1760000000000")), "expires_at=2025-10-09T08:53:20.000Z");
        assert_eq!(shown("cpus", Some("1"), Some("1760000000000")), "cpus=1→1760000000000");
        assert_eq!(shown("labels.env", Some("prod"), None), "labels.env=prod→");
    }

    #[test]
    fn events_in_a_list() {
        let event: Event = serde_json::from_str(
            r#"{
                "id": "812.1", "at": "2026-03-01T12:30:00Z", "actor": { "kind": "local", "node": "n1", "uid": 0 },
                "subject": { "kind": "vm", "id": "ec270707-0707-4707-8707-070707070707", "name": "web-1" },
                "kind": "changed",
                "changes": [ { "field": "desired", "old": "running", "new": "stopped" }, { "field": "note", "old": null, "new": "x" } ]
            }"#,
        )
        .unwrap();
        let out = |format, human| Out::of(format, look(human), Terminal { out: human, ..Terminal::default() });
        let events = [event];
        expect![[r#"
            WHEN   WHAT     TO        BY           CHANGES                         EVENT
            30min  changed  vm/web-1  uid 0 on n1  desired=running→stopped note=x  812.1
        "#]]
        .assert_eq(&out(Some(Format::Wide), true).list_text(&events).unwrap());
        expect![[r#"
            2026-03-01T12:30:00.000Z|changed|vm/web-1|uid 0 on n1|desired=running→stopped note=x
        "#]]
        .assert_eq(&out(None, false).list_text(&events).unwrap().replace('\t', "|"));
    }
}
