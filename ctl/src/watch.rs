//! `--watch`: what a list or a VM is, now and whenever it changes.
//!
//! ```text
//!   event that concerns it ──┐                         on a terminal: the picture is drawn anew in its place
//!   stream away: a pause ────┼──> ask again ──> show ──┤
//!   a second (ages grow) ────┘                         else: a line for each VM that came, changed, or went
//! ```
//!
//! The event stream says *when* to look and never *what* is shown: a lost event costs a moment, never a wrong line.

use crate::{
    context::Context,
    exit::Failure,
    output::{Cell, Column, Look, Out, Row, Screen, Tone},
};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use waifud_api::{
    client::ClientError,
    event::{Observed, StreamItem, Subject},
    vm::Vm,
};
use waifud_model::ids::VmId;

/// How often is looked while the stream is away: what a person takes for "at once" on a page that is being watched.
const POLL: Duration = Duration::from_secs(2);
/// How often is looked though the stream is there and silent: should it have lost something, nobody waits for long.
const ANYWAY: Duration = Duration::from_secs(10);
/// Events come in bursts (a VM that starts makes several); one look after a burst is enough.
const SETTLE: Duration = Duration::from_millis(50);
/// How often ages on a terminal are counted anew.
const AGES: Duration = Duration::from_secs(1);

/// Wakes whoever watches.
struct Wakes {
    stream: BoxStream<'static, Result<StreamItem, ClientError>>,
    away: bool,
    over: bool,
}

impl Wakes {
    fn new(stream: impl Stream<Item = Result<StreamItem, ClientError>> + Send + 'static) -> Self {
        Self { stream: stream.boxed(), away: false, over: false }
    }

    /// Comes back when it is time to look again.
    async fn next(&mut self, concerns: impl Fn(&StreamItem) -> bool) {
        let last = Instant::now();
        loop {
            let pause = if self.away || self.over { POLL } else { ANYWAY };
            tokio::select! {
                () = tokio::time::sleep_until(last + pause) => return,
                item = self.stream.next(), if !self.over => match item {
                    Some(Ok(item)) => {
                        self.away = false;
                        if concerns(&item) {
                            tokio::time::sleep(SETTLE).await;
                            return;
                        }
                    }
                    // It goes on trying by itself; meanwhile it is looked without it.
                    Some(Err(ClientError::Unreachable(_))) => self.away = true,
                    Some(Err(_)) | None => self.over = true,
                },
            }
        }
    }
}

/// Is a list of VMs another after this?
fn moves_lists(item: &StreamItem) -> bool {
    match item {
        StreamItem::Event(event) => matches!(event.subject, Subject::Vm { .. } | Subject::Node { .. }),
        StreamItem::Observed(_) | StreamItem::Forgotten(_) => true,
    }
}

/// What happened to a VM since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// It is there; it was not, or nobody had looked.
    There,
    /// Something about it is another.
    Changed,
    /// It is gone; what is shown is what was last known.
    Gone,
}

/// A VM and what happened to it: a line of a watched list in a pipe.
#[derive(Debug, Serialize)]
struct Turn {
    change: What,
    vm: Vm,
}

impl Row for Turn {
    const COLUMNS: &'static [Column] = Vm::COLUMNS;

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let mut cells = self.vm.cells(look);
        if self.change == What::Gone
            && let Some(n) = Self::COLUMNS.iter().position(|column| column.head == "STATUS")
        {
            cells[n] = Cell { text: "gone".to_owned(), tone: Tone::Plain };
        }
        cells
    }

    fn name(&self) -> String {
        self.vm.name.to_string()
    }
}

/// What has changed since the last look.
fn turns(known: &mut BTreeMap<VmId, Vm>, now: Vec<Vm>) -> Vec<Turn> {
    let mut before = std::mem::take(known);
    let mut turns = Vec::new();
    for vm in now {
        match before.remove(&vm.id) {
            Some(old) if old == vm => {}
            Some(_) => turns.push(Turn { change: What::Changed, vm: vm.clone() }),
            None => turns.push(Turn { change: What::There, vm: vm.clone() }),
        }
        known.insert(vm.id, vm);
    }
    let mut gone: Vec<_> = before.into_values().map(|vm| Turn { change: What::Gone, vm }).collect();
    gone.sort_by(|a, b| a.vm.name.cmp(&b.vm.name));
    turns.append(&mut gone);
    turns
}

/// Shows VMs as `look` gives them, and again whenever they change, until Ctrl-C, or until `look` says that there is no more to
/// be seen. `text` is the picture for a terminal.
pub(crate) async fn vms(
    context: &Context,
    look: impl AsyncFn() -> Result<Seen, Failure>,
    text: impl Fn(&Out, &[Vm]) -> Result<String, Failure>,
) -> Result<(), Failure> {
    tokio::select! {
        end = go_on(context, look, text) => end,
        // Watching ends with Ctrl-C; that is how it is meant to end.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// What a look gives.
pub(crate) struct Seen {
    pub(crate) vms: Vec<Vm>,
    /// What is to be said beside it: that the answer may be out of date.
    pub(crate) note: Option<String>,
    /// There will be no more.
    pub(crate) last: bool,
}

async fn go_on(
    context: &Context,
    look: impl AsyncFn() -> Result<Seen, Failure>,
    text: impl Fn(&Out, &[Vm]) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let drawn = context.out.is_table_on_terminal();
    let mut wakes = Wakes::new(context.client.event_stream(None));
    let (mut screen, mut known, mut shown) = (Screen::default(), BTreeMap::new(), Vec::new());
    let mut told = None;
    context.out.head::<Turn>()?;
    loop {
        let (seen, note) = match look().await {
            Ok(seen) => (Some((seen.vms, seen.last)), seen.note),
            // A watch outlives the node that served it; what was last seen stays, with the reason.
            Err(Failure::Client(error @ ClientError::Unreachable(_))) => (None, Some(error.to_string())),
            Err(failure) => return Err(failure),
        };
        let last = seen.as_ref().is_some_and(|(_, last)| *last);
        if !drawn {
            if note.is_some() && note != told {
                context.hint(note.as_deref().unwrap_or_default());
            }
            told = note;
            for turn in seen.map(|(vms, _)| turns(&mut known, vms)).unwrap_or_default() {
                context.out.item(&turn)?;
            }
            if last {
                return Ok(());
            }
            wakes.next(moves_lists).await;
            continue;
        }
        if let Some((vms, _)) = seen {
            shown = vms;
        }
        let draw = |screen: &mut Screen| {
            let note = note.as_ref().map(|note| format!("{note}\n")).unwrap_or_default();
            screen.draw(&format!("{}{note}", text(&context.out.later(), &shown)?))
        };
        draw(&mut screen)?;
        if last {
            return Ok(());
        }
        let mut woken = std::pin::pin!(wakes.next(moves_lists));
        loop {
            tokio::select! {
                () = &mut woken => break,
                () = tokio::time::sleep(AGES) => draw(&mut screen)?,
            }
        }
    }
}

/// Does this concern the VM or its node?
pub(crate) fn concerns(item: &StreamItem, vm: &Vm) -> bool {
    match item {
        StreamItem::Event(event) => matches!(&event.subject, Subject::Vm { id, .. } if *id == vm.id),
        StreamItem::Observed(Observed::Vm { id, .. }) => *id == vm.id,
        StreamItem::Observed(Observed::Node { name, .. }) => *name == vm.node,
        StreamItem::Observed(Observed::Skipped) | StreamItem::Forgotten(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Format, Terminal},
        views::vm::tests::{look, vm},
    };
    use expect_test::expect;
    use waifud_model::observed::VmState;

    #[test]
    fn lines_tell_what_came_changed_and_went() {
        let mut known = BTreeMap::new();
        let out = |format| Out::of(format, look(false), Terminal::default());
        let show = |turns: &[Turn]| out(None).list_text(turns).unwrap().replace('\t', "|");
        let first = turns(&mut known, vec![vm()]);
        expect![[r#"
            web-1|running|n2|12|4294967296|10.77.2.14|2026-03-01T12:00:10.000Z
        "#]]
        .assert_eq(&show(&first));
        assert!(turns(&mut known, vec![vm()]).is_empty(), "nothing has changed");
        let mut stopping = vm();
        stopping.status.state = VmState::Stopping;
        let second = turns(&mut known, vec![stopping]);
        assert_eq!((second.len(), second[0].change), (1, What::Changed));
        let third = turns(&mut known, vec![]);
        expect![[r#"
            web-1|gone|n2|12|4294967296|10.77.2.14|-
        "#]]
        .assert_eq(&show(&third));
        let names = out(Some(Format::Name)).list_text(&third).unwrap();
        assert_eq!(names, "web-1\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_away_is_replaced_by_looking_often() {
        let refused = || Err(ClientError::Unreachable(Vec::new()));
        let mut away = Wakes::new(futures::stream::iter([refused()]).chain(futures::stream::pending()));
        let start = Instant::now();
        away.next(moves_lists).await;
        assert_eq!(start.elapsed(), POLL);
        let mut silent = Wakes::new(futures::stream::pending());
        let start = Instant::now();
        silent.next(moves_lists).await;
        assert_eq!(start.elapsed(), ANYWAY);
        let event = || Ok(StreamItem::Observed(Observed::Skipped));
        let mut busy = Wakes::new(futures::stream::iter([event(), event()]).chain(futures::stream::pending()));
        let start = Instant::now();
        busy.next(moves_lists).await;
        assert_eq!(start.elapsed(), SETTLE);
    }
}
