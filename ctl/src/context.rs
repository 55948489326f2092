//! What every command works with: the API, the output, the progress, and how long to wait.

use crate::{
    cli::Global,
    endpoint::{Environment, Target},
    exit::Failure,
    output::{Out, Terminal, short_span},
    progress::Progress,
    settings::Settings,
};
use std::{
    collections::BTreeSet,
    ops::Deref,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use waifud_api::client::{Answer, Client, Freshness};

/// What every command works with that asks the cluster.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    /// Where the client's endpoints came from.
    pub(crate) target: Target,
    /// Warnings that were passed on: nobody wants to read one again with every look.
    warned: Mutex<BTreeSet<String>>,
    terms: Terms,
}

/// What every command works with, also those that ask nobody.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) out: Out,
    pub(crate) progress: Progress,
    pub(crate) terminal: Terminal,
    pub(crate) settings: Settings,
    /// Nothing is to be said but results and errors.
    pub(crate) quiet: bool,
    /// Agrees with every question beforehand.
    pub(crate) yes: bool,
    /// Wait until what was asked for is so?
    pub(crate) wait: bool,
    /// For how long to wait, if the user said so.
    pub(crate) timeout: Option<Duration>,
}

/// A context is used as the terms it contains: commands say `context.out`, and what asks nobody takes [`Terms`].
impl Deref for Context {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Terms {
    pub(crate) fn new(global: &Global, terminal: Terminal) -> Result<Self, Failure> {
        let settings = Settings::load()?;
        Ok(Self {
            out: Out::new(global, &settings.defaults, terminal),
            progress: Progress::new(terminal, global.quiet),
            terminal,
            quiet: global.quiet,
            yes: global.yes,
            wait: !global.no_wait,
            timeout: global.timeout.or(settings.defaults.timeout()),
            settings,
        })
    }

    /// Says something on stderr that is neither data nor failure.
    pub(crate) fn hint(&self, text: &str) {
        self.progress.say(text);
    }
}

impl Context {
    pub(crate) fn new(global: &Global, terminal: Terminal) -> Result<Self, Failure> {
        let terms = Terms::new(global, terminal)?;
        let environment = Environment::read();
        let target = Target::of(global, &environment, &terms.settings)?;
        Ok(Self { client: target.client(global, &environment)?, target, warned: Mutex::default(), terms })
    }

    /// Takes the value out of an answer, and says on stderr what the server warns of, and if it may be out of date.
    pub(crate) fn fresh<T>(&self, answer: Answer<T>) -> T {
        self.heed(&answer.freshness);
        if let Some(note) = self.staleness(&answer.freshness) {
            self.hint(&note);
        }
        answer.value
    }

    /// Passes on what the server warns of, each warning once.
    pub(crate) fn heed(&self, freshness: &Freshness) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in &freshness.warnings {
            if warned.insert(warning.clone()) {
                self.hint(&format!("warning: {warning}"));
            }
        }
    }

    /// Why an answer may be out of date, if it may.
    pub(crate) fn staleness(&self, freshness: &Freshness) -> Option<String> {
        let why = freshness.stale.as_ref()?;
        let node = freshness.node.as_deref().unwrap_or("the node");
        let why = if why == "no_quorum" { "there is no quorum" } else { "the node lags behind" };
        let age = freshness.age.map_or(String::new(), |age| format!(" {} ago", short_span(age)));
        Some(format!("stale: {why}; {node} shows what it knew{age}"))
    }
}
