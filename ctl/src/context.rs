//! What every command works with: the API, the output, the progress, and how long to wait.

use crate::{
    cli::Global,
    endpoint,
    exit::Failure,
    output::{Out, Terminal, short_span},
    progress::Progress,
};
use std::time::Duration;
use waifud_api::client::{Answer, Client};

/// See the module.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) out: Out,
    pub(crate) progress: Progress,
    pub(crate) terminal: Terminal,
    /// Nothing is to be said but results and errors.
    pub(crate) quiet: bool,
    /// Agrees with every question beforehand.
    pub(crate) yes: bool,
    /// Wait until what was asked for is so?
    pub(crate) wait: bool,
    /// For how long to wait, if the user said so.
    pub(crate) timeout: Option<Duration>,
}

impl Context {
    pub(crate) fn new(global: &Global, terminal: Terminal) -> Result<Self, Failure> {
        Ok(Self {
            client: endpoint::client(global)?,
            out: Out::new(global, terminal),
            progress: Progress::new(terminal, global.quiet),
            terminal,
            quiet: global.quiet,
            yes: global.yes,
            wait: !global.no_wait,
            timeout: global.timeout,
        })
    }

    /// Takes the value out of an answer, and says so on stderr if it may be out of date.
    pub(crate) fn fresh<T>(&self, answer: Answer<T>) -> T {
        let freshness = &answer.freshness;
        if let Some(why) = &freshness.stale {
            let node = freshness.node.as_deref().unwrap_or("the node");
            let why = if why == "no_quorum" { "there is no quorum" } else { "the node lags behind" };
            let age = freshness.age.map_or(String::new(), |age| format!(" {} ago", short_span(age)));
            self.hint(&format!("stale: {why}; {node} shows what it knew{age}"));
        }
        answer.value
    }

    /// Says something on stderr that is neither data nor failure.
    pub(crate) fn hint(&self, text: &str) {
        self.progress.say(text);
    }
}
