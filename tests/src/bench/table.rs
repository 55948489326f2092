//! What was measured, as people read it: our figure, the figure beside it, their ratio, and the goal.

use std::{fmt, time::Duration};

/// A figure with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figure {
    /// Milliseconds.
    Ms(f64),
    /// Seconds.
    Seconds(f64),
    /// Events a second.
    PerSecond(f64),
    /// How many, on average.
    Mean(f64),
    /// Mebibytes.
    MiB(f64),
    /// Percent of one core.
    Core(f64),
    /// 10⁹ bits a second.
    Gbit(f64),
    /// Seconds of CPU for 10⁹ bytes.
    CpuPerGB(f64),
}

impl Figure {
    /// A time, in milliseconds.
    pub(super) fn ms(time: Duration) -> Self {
        Self::Ms(time.as_secs_f64() * 1e3)
    }

    /// A time, in seconds.
    pub(super) fn seconds(time: Duration) -> Self {
        Self::Seconds(time.as_secs_f64())
    }

    fn value(self) -> f64 {
        match self {
            Self::Ms(v) | Self::Seconds(v) | Self::PerSecond(v) | Self::Mean(v) => v,
            Self::MiB(v) | Self::Core(v) | Self::Gbit(v) | Self::CpuPerGB(v) => v,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Ms(v) => format!("{v:.2} ms"),
            Self::Seconds(v) => format!("{v:.2} s"),
            Self::PerSecond(v) => format!("{v:.0}/s"),
            Self::Mean(v) => format!("{v:.2}"),
            Self::MiB(v) => format!("{v:.1} MiB"),
            Self::Core(v) => format!("{v:.2} %"),
            Self::Gbit(v) => format!("{v:.2} Gbit/s"),
            Self::CpuPerGB(v) => format!("{v:.2} s/GB"),
        };
        f.pad(&text)
    }
}

#[derive(Debug)]
enum Line {
    /// What follows, and what it is measured beside.
    Part {
        title: String,
        beside: String,
    },
    Row {
        what: String,
        ours: Figure,
        beside: Option<Figure>,
        goal: &'static str,
    },
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Table(Vec<Line>);

impl Table {
    /// Begins a part; `beside` says what the second column is.
    pub(super) fn part(&mut self, title: impl Into<String>, beside: impl Into<String>) {
        self.0.push(Line::Part { title: title.into(), beside: beside.into() });
    }

    /// Adds a figure and what it stands beside.
    pub(super) fn row(
        &mut self,
        what: impl Into<String>,
        ours: Figure,
        beside: impl Into<Option<Figure>>,
        goal: &'static str,
    ) {
        self.0.push(Line::Row { what: what.into(), ours, beside: beside.into(), goal });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            match line {
                Line::Part { title, beside } => {
                    writeln!(f, "\n{title:<54} {:>12} {beside:>12}  {:>6}  goal", "waifud", "ratio")?;
                }
                Line::Row { what, ours, beside, goal } => {
                    let shown = beside.map(|figure| figure.to_string()).unwrap_or_default();
                    let ratio = beside
                        .filter(|figure| figure.value() > 0.0)
                        .map(|figure| format!("{:.2}", ours.value() / figure.value()))
                        .unwrap_or_default();
                    let text = format!("  {what:<52} {ours:>12} {shown:>12}  {ratio:>6}  {goal}");
                    writeln!(f, "{}", text.trim_end())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn figures_stand_beside_each_other() {
        let mut table = Table::default();
        table.part("Writes", "etcd");
        table.row("p50, 1 client", Figure::ms(Duration::from_micros(800)), Figure::Ms(1.0), "<= 0.8");
        table.row("rate", Figure::PerSecond(1234.4), None, "");
        table.row("nothing beside", Figure::Core(0.3), Figure::Core(0.0), "<= 0.5 %");
        expect![[r#"

            Writes                                                       waifud         etcd   ratio  goal
              p50, 1 client                                             0.80 ms      1.00 ms    0.80  <= 0.8
              rate                                                       1234/s
              nothing beside                                             0.30 %       0.00 %          <= 0.5 %
        "#]]
        .assert_eq(&table.to_string());
    }
}
