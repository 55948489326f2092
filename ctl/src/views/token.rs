//! Tokens.

use crate::output::{Cell, Column, Look, Row, Tone};
use std::time::Duration;
use waifud_api::{
    time::Time,
    token::{ApiToken, ApiTokenCreated, JoinToken, JoinTokenCreated},
};

/// When it ends: for eyes in how long, or that it is over.
fn end(at: Option<Time>, look: &Look) -> Cell {
    match at {
        None => "never".into(),
        Some(at) if !look.human => at.to_string().into(),
        Some(at) if at <= look.now => Cell { text: "expired".to_owned(), tone: Tone::Warn },
        Some(at) => {
            let left = Duration::from_millis(at.0.0.saturating_sub(look.now.0.0));
            format!("in {}", crate::output::short_span(left)).into()
        }
    }
}

impl Row for JoinToken {
    const COLUMNS: &'static [Column] =
        &[Column::text("ID"), Column::number("USES"), Column::text("EXPIRES"), Column::text("CREATED")];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.id.to_string().into(),
            self.uses_left.to_string().into(),
            end(Some(self.expires_at), look),
            look.since(Some(self.created_at)).into(),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for ApiToken {
    const COLUMNS: &'static [Column] = &[
        Column::text("ID"),
        Column::text("ROLE"),
        Column::text("SCOPE"),
        Column::text("FOR"),
        Column::text("EXPIRES"),
        Column::text("CREATED"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.id.to_string().into(),
            self.role.to_string().into(),
            look.words(self.scope.iter().map(|(key, value)| format!("{key}={value}"))).into(),
            if self.description.is_empty() { "-".into() } else { self.description.as_str().into() },
            end(self.expires_at, look),
            look.since(Some(self.created_at)).into(),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}

/// A new token: this once, with the text itself.
impl Row for ApiTokenCreated {
    const COLUMNS: &'static [Column] =
        &[Column::text("ID"), Column::text("ROLE"), Column::text("EXPIRES"), Column::text("TOKEN")];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let info = &self.info;
        let (id, role) = (info.id.to_string(), info.role.to_string());
        vec![id.into(), role.into(), end(info.expires_at, look), self.token.as_str().into()]
    }

    fn name(&self) -> String {
        self.token.clone()
    }
}

/// A new token: this once, with the text itself.
impl Row for JoinTokenCreated {
    const COLUMNS: &'static [Column] =
        &[Column::text("ID"), Column::number("USES"), Column::text("EXPIRES"), Column::text("TOKEN")];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let info = &self.info;
        let (id, uses) = (info.id.to_string(), info.uses_left.to_string());
        vec![id.into(), uses.into(), end(Some(info.expires_at), look), self.token.as_str().into()]
    }

    fn name(&self) -> String {
        self.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::vm::tests::look;

    #[test]
    fn ends_are_told_for_eyes_and_programs() {
        let at = |text: &str| Some(text.parse::<Time>().unwrap());
        assert_eq!(end(at("2026-03-01T14:30:00Z"), &look(true)).text, "in 1h");
        assert_eq!(end(at("2026-03-01T12:00:00Z"), &look(true)).text, "expired");
        assert_eq!(end(at("2026-03-01T12:00:00Z"), &look(false)).text, "2026-03-01T12:00:00.000Z");
        assert_eq!(end(None, &look(true)).text, "never");
    }
}
