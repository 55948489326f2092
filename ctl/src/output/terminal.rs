//! What stdin, stdout and stderr are, and whether they take colours.
//!
//! Colours: never with `NO_COLOR`, always with `CLICOLOR_FORCE`, else on a terminal (no-color.org, bixense.com/clicolors).

use std::{
    env,
    io::{self, IsTerminal as _},
};

/// Which of the three are terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Terminal {
    pub(crate) input: bool,
    pub(crate) out: bool,
    pub(crate) err: bool,
    pub(crate) colour_out: bool,
    pub(crate) colour_err: bool,
}

impl Terminal {
    pub(crate) fn detect() -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = |terminal: bool| !set("NO_COLOR") && (forced || (terminal && !dumb));
        Self { input: io::stdin().is_terminal(), out, err, colour_out: colour(out), colour_err: colour(err) }
    }

    /// Is there a person to be asked?
    pub(crate) const fn can_ask(self) -> bool {
        self.input && self.err
    }
}

/// What a word means, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// As it should be: green.
    Good,
    /// On its way, or not known: yellow.
    Warn,
    /// Not as it should be: red.
    Bad,
}

impl Tone {
    /// The word in its colour.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Good => 32,
            Self::Warn => 33,
            Self::Bad => 31,
            Self::Plain => return text.to_owned(),
        };
        if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
