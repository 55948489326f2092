//! What goes over a guest's serial console, and what its log is asked for.
//!
//! `GET /vms/{name}/console` becomes a WebSocket (RFC 6455). Binary frames are bytes: what the guest wrote, what is typed.
//! Text frames are one JSON value each: [`FromConsole`] to the viewer, [`ToConsole`] from it. A kind that one side does not
//! know is to be passed over: kinds are only added.
//!
//! ```text
//!   101 ─► Hello ─► the screen as it is (binary) ─► output (binary), Seat, Lost, Power … ─► close 1001: connect again
//!                                                                                          1000: over, 1008: not allowed
//! ```
//!
//! `GET /vms/{name}/vnc` becomes a WebSocket of the subprotocol `binary`: its frames are the bytes of RFB (RFC 6143).

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use waifud_model::name::{NodeName, VmName};

/// The subprotocol of a screen's WebSocket, as noVNC asks for it.
pub const VNC_PROTOCOL: &str = "binary";

/// Answer to `GET /vms/{name}/logs`: where in the log the first byte of the body is.
pub const LOG_OFFSET: &str = "waifu-log-offset";

/// The query of `GET /vms/{name}/console`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsoleQuery {
    /// Write although somebody else does, who then may not any more.
    #[serde(default)]
    pub take: bool,
    /// Never write.
    #[serde(default)]
    pub read_only: bool,
    /// What is sent first.
    #[serde(default)]
    pub replay: Replay,
}

/// What a newcomer is sent before what the guest writes from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// The screen, to be drawn by a terminal that understands what an xterm does.
    #[default]
    Screen,
    /// The lines on the screen, without colours and movements.
    Text,
    /// Nothing.
    None,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// Who may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "seat", rename_all = "snake_case")]
pub enum Seat {
    /// This viewer.
    Yours,
    /// Whoever types first.
    Free,
    /// Somebody else.
    Taken {
        /// Who, in the words of the audit log.
        by: String,
    },
}

/// What a viewer is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromConsole {
    /// The first frame.
    Hello {
        /// Whose console it is.
        #[schema(value_type = String)]
        vm: VmName,
        /// Where the guest runs.
        #[schema(value_type = String)]
        node: NodeName,
        /// Who may write.
        #[serde(flatten)]
        seat: Seat,
    },
    /// Who may write has changed, or something was typed by one who may not.
    Seat {
        /// Who may.
        #[serde(flatten)]
        seat: Seat,
    },
    /// The viewer was too slow, and so many bytes were not sent. The screen as it is follows.
    Lost {
        /// How many.
        bytes: u64,
    },
    /// The guest went off, or runs again. The console stays open.
    Power {
        /// Does it run?
        on: bool,
    },
    /// A kind of a newer server.
    #[serde(other)]
    Other,
}

/// What a viewer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToConsole {
    /// The viewer's terminal has this size. A serial port cannot tell its guest; the screen that is replayed is kept in the
    /// size of whoever writes.
    Resize(Size),
    /// Write although somebody else does.
    Take,
    /// A kind of a newer client.
    #[serde(other)]
    Other,
}

/// The query of `GET /vms/{name}/logs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Go on with what the guest writes from now on.
    #[serde(default)]
    pub follow: bool,
    /// Only so many of the last lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// What the guest wrote before it was started the last time.
    #[serde(default)]
    pub previous: bool,
    /// From this byte of the log on: where an earlier answer ended. Not with `tail` or `previous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    #[test]
    fn frames_read_as_they_are_documented() {
        let seat = Seat::Taken { by: "uid:0@n1".to_owned() };
        let hello =
            FromConsole::Hello { vm: "web-1".parse().unwrap(), node: "n2".parse().unwrap(), seat: seat.clone() };
        for (told, json) in [
            (hello, r#"{"type":"hello","vm":"web-1","node":"n2","seat":"taken","by":"uid:0@n1"}"#),
            (FromConsole::Seat { seat: Seat::Yours }, r#"{"type":"seat","seat":"yours"}"#),
            (FromConsole::Seat { seat }, r#"{"type":"seat","seat":"taken","by":"uid:0@n1"}"#),
            (FromConsole::Lost { bytes: 7 }, r#"{"type":"lost","bytes":7}"#),
            (FromConsole::Power { on: false }, r#"{"type":"power","on":false}"#),
        ] {
            assert_eq!(to_string(&told).unwrap(), json);
            assert_eq!(from_str::<FromConsole>(json).unwrap(), told);
        }
        let resize = ToConsole::Resize(Size { rows: 24, cols: 80 });
        assert_eq!(to_string(&resize).unwrap(), r#"{"type":"resize","rows":24,"cols":80}"#);
        assert_eq!(from_str::<ToConsole>(r#"{"type":"resize","rows":24,"cols":80}"#).unwrap(), resize);
        assert_eq!(from_str::<ToConsole>(r#"{"type":"take"}"#).unwrap(), ToConsole::Take);
    }

    #[test]
    fn what_a_newer_side_says_is_passed_over() {
        assert_eq!(from_str::<FromConsole>(r#"{"type":"weather"}"#).unwrap(), FromConsole::Other);
        assert_eq!(from_str::<ToConsole>(r#"{"type":"weather"}"#).unwrap(), ToConsole::Other);
    }
}
