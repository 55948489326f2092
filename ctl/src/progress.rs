//! What is going on, on stderr: named phases with the time each took.
//!
//! On a terminal a phase is a line with a running clock that becomes `✓ …` when it is done. Elsewhere each finished phase is a
//! plain line, so that a log reads well. With `--quiet` nothing is said.

use crate::output::{Echo, Terminal, Tone, elapsed, printable, stderr};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// How often a running clock is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    /// The lines that are drawn anew; whatever else is said makes them step aside.
    bars: MultiProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal { colour: bool },
    Plain,
    Quiet,
}

/// A phase that is going on. Dropped without [`Phase::done`], its line goes away.
#[derive(Debug)]
pub(crate) struct Phase {
    mode: Mode,
    bars: MultiProgress,
    bar: Option<ProgressBar>,
    start: Instant,
    /// Restores the terminal when the phase is over; none where there is no terminal to type on.
    _echo: Option<Echo>,
}

impl Progress {
    pub(crate) fn new(terminal: Terminal, quiet: bool) -> Self {
        let mode = match (quiet, terminal.err) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Terminal { colour: terminal.colour_err },
            (false, false) => Mode::Plain,
        };
        Self { mode, bars: MultiProgress::new() }
    }

    /// Begins a phase of which it is not known how long it takes.
    pub(crate) fn phase(&self, doing: &str) -> Phase {
        let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
        self.begin(doing, ProgressBar::new_spinner(), style)
    }

    /// Begins a phase that moves bytes.
    pub(crate) fn transfer(&self, doing: &str) -> Phase {
        let style = ProgressStyle::with_template(
            "{spinner} {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  {wide_bar}  {eta} left",
        );
        self.begin(doing, ProgressBar::no_length(), style)
    }

    fn begin(
        &self,
        doing: &str,
        bar: ProgressBar,
        style: Result<ProgressStyle, indicatif::style::TemplateError>,
    ) -> Phase {
        let bar = matches!(self.mode, Mode::Terminal { .. }).then(|| {
            let bar = self.bars.add(bar);
            // The templates are constants above; should one not read, the default does.
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_message(printable(doing));
            bar.enable_steady_tick(TICK);
            bar
        });
        let echo = bar.as_ref().and_then(|_| Echo::no_signals().ok());
        Phase { mode: self.mode, bars: self.bars.clone(), bar, start: Instant::now(), _echo: echo }
    }

    /// Says something between the phases.
    pub(crate) fn say(&self, text: &str) {
        self.mode.tell(&self.bars, &format!("{}\n", printable(text)));
    }

    /// Says that something is done which took no time worth telling.
    pub(crate) fn done(&self, what: &str, detail: &str) {
        self.mode.tell(&self.bars, &line(self.mode, what, detail, None));
    }
}

impl Phase {
    /// Something else is going on now, in the same phase.
    pub(crate) fn doing(&self, doing: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(doing));
        }
    }

    /// A handle for telling how many bytes are through, from elsewhere.
    pub(crate) fn meter(&self) -> impl Fn(u64, u64) + Send + Sync + 'static {
        let bar = self.bar.clone();
        move |done, all| {
            if let Some(bar) = &bar {
                bar.set_length(all);
                bar.set_position(done);
            }
        }
    }

    /// A part of the phase is done; the clock begins anew for the next.
    pub(crate) fn step(&mut self, what: &str, detail: &str) {
        let text = line(self.mode, what, detail, Some(self.start.elapsed()));
        self.mode.tell(&self.bars, &text);
        self.start = Instant::now();
    }

    /// The phase is done.
    pub(crate) fn done(mut self, what: &str, detail: &str) {
        self.step(what, detail);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Mode {
    fn tell(self, bars: &MultiProgress, text: &str) {
        if self != Self::Quiet {
            bars.suspend(|| stderr(text));
        }
    }
}

/// The line of something that is done.
fn line(mode: Mode, what: &str, detail: &str, took: Option<Duration>) -> String {
    let (what, detail) = (printable(what), printable(detail));
    let took = took.map(elapsed).unwrap_or_default();
    let text = match mode {
        Mode::Terminal { colour } => {
            let mark = Tone::Good.paint("✓", colour);
            format!("{mark} {what:<20} {detail:<46} {took:>6}")
        }
        Mode::Plain | Mode::Quiet => {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let took = if took.is_empty() { String::new() } else { format!(" ({took})") };
            format!("{what}{detail}{took}")
        }
    };
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn lines_of_a_create() {
        let steps = [
            ("placed on n2", "most free memory of 3 (n3 full, n1 cordoned)", None),
            ("template debian-12", "version 9f3c21ab01cd", Some(Duration::from_millis(1_900))),
            ("disk 10 GiB", "", Some(Duration::from_millis(100))),
            ("booted", "10.77.2.14", Some(Duration::from_secs(83))),
        ];
        let all = |mode| steps.map(|(what, detail, took)| line(mode, what, detail, took)).concat();
        expect![[r#"
            ✓ placed on n2         most free memory of 3 (n3 full, n1 cordoned)
            ✓ template debian-12   version 9f3c21ab01cd                             1.9s
            ✓ disk 10 GiB                                                           0.1s
            ✓ booted               10.77.2.14                                        83s
        "#]]
        .assert_eq(&all(Mode::Terminal { colour: false }));
        expect![[r#"
            placed on n2: most free memory of 3 (n3 full, n1 cordoned)
            template debian-12: version 9f3c21ab01cd (1.9s)
            disk 10 GiB (0.1s)
            booted: 10.77.2.14 (83s)
        "#]]
        .assert_eq(&all(Mode::Plain));
    }
}
