//! `events`: what happened, and as it happens.

use crate::{
    complete,
    context::Context,
    exit::Failure,
    output::{now, parse_span},
    typed::one_or_more,
};
use futures::StreamExt as _;
use waifud_api::{
    client::ClientError,
    event::{Event, EventsQuery, Forgotten, Since, StreamItem},
    select::{ActorSelector, Kinds, SubjectSelector},
    time::Time,
};
use waifud_model::time::Timestamp;

/// How many past events are shown before new ones are followed.
const BEFORE: u32 = 10;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl events --since 1h
  waifuctl events --follow -o json
  waifuctl events --kind crashed,failed --since 1d
  waifuctl events --about vm/web-1 --by people")]
pub(crate) struct Args {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// From when on: a time (2026-03-01T12:00:00Z), a span before now (1h), or an event (812.0)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// How many at most [default: 100; all with --since]
    #[arg(long, value_name = "COUNT", value_parser = one_or_more)]
    limit: Option<u32>,
    /// Only these kinds: created, changed, deleting, deleted, started, stopped, crashed, failed, opened
    #[arg(long, value_name = "KIND[,KIND…]")]
    kind: Option<Kinds>,
    /// Only about this: vm, vm/web-1
    #[arg(long, value_name = "KIND[/NAME]", add = complete::subjects())]
    about: Option<SubjectSelector>,
    /// Only by these: people, nodes, uid:1000, uid:1000@n1, token:ID, node:n1
    #[arg(long, value_name = "ACTOR")]
    by: Option<ActorSelector>,
}

impl Args {
    /// The query without its bounds.
    fn filters(&self) -> EventsQuery {
        let (kind, subject, actor) = (self.kind.clone(), self.about.clone(), self.by.clone());
        EventsQuery { kind, subject, actor, ..EventsQuery::default() }
    }
}

/// A moment, an event, or a span before `now`. A bare number is an event: spans have units here.
pub(super) fn moment(text: &str, now: Time) -> Result<Since, Failure> {
    if let Ok(since) = text.parse() {
        return Ok(since);
    }
    let span = parse_span(text).map_err(|_| {
        Failure::Usage(format!("{text:?} is no time, span or event; write 2026-03-01T12:00:00Z, 1h, or 812.0"))
    })?;
    let before = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Ok(Since::Time(Time(Timestamp(now.0.0.saturating_sub(before)))))
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let from = args.since.as_deref().map(|text| moment(text, now())).transpose()?;
    context.out.check::<Event>()?;
    if !args.follow {
        return context.out.list(&past(context, &args.filters(), from, args.limit).await?);
    }
    let before = if from.is_some() { args.limit } else { args.limit.or(Some(BEFORE)) };
    context.out.head::<Event>()?;
    let events = past(context, &args.filters(), from, before).await?;
    for event in &events {
        context.out.item(event)?;
    }
    let resume = events.last().map(|event| Since::Event(event.id)).or(from);
    tokio::select! {
        end = follow(context, EventsQuery { since: resume, ..args.filters() }) => end,
        // Following ends with Ctrl-C; that is how it is meant to end.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Past events, oldest first; page after page, where the beginning is given and no limit.
async fn past(
    context: &Context,
    filters: &EventsQuery,
    from: Option<Since>,
    limit: Option<u32>,
) -> Result<Vec<Event>, Failure> {
    let (mut all, mut since) = (Vec::<Event>::new(), from);
    loop {
        let left = limit.map(|limit| limit.saturating_sub(all.len() as u32));
        let page = left.map_or(EventsQuery::MAX_LIMIT, |left| left.min(EventsQuery::MAX_LIMIT));
        // Without a beginning it is the server's to say how many there are by default.
        let most = if from.is_none() { limit.map(|_| page) } else { Some(page) };
        let query = EventsQuery { since, limit: most, ..filters.clone() };
        let events = context.fresh(context.client.events(query).await?);
        let whole = events.len() < page as usize;
        let last = events.last().map(|event| event.id);
        all.extend(events);
        let enough = limit.is_some_and(|limit| all.len() >= limit as usize);
        match last {
            Some(last) if from.is_some() && !whole && !enough => since = Some(Since::Event(last)),
            _ => return Ok(all),
        }
    }
}

async fn follow(context: &Context, query: EventsQuery) -> Result<(), Failure> {
    let mut stream = std::pin::pin!(context.client.filtered_event_stream(query));
    let mut told = false;
    while let Some(item) = stream.next().await {
        match item {
            Ok(StreamItem::Event(event)) => {
                told = false;
                context.out.item(&event)?;
            }
            Ok(StreamItem::Observed(_)) => {}
            Ok(StreamItem::Forgotten(Forgotten { before })) => {
                context.hint(&format!("some events before {before} are not kept any more"));
            }
            Err(error @ ClientError::Unreachable(_)) => {
                if !std::mem::replace(&mut told, true) {
                    context.hint(&format!("{error}; following goes on as soon as one does"));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_spans_and_events() {
        let now = Time(Timestamp(1_760_000_000_000));
        assert_eq!(moment("1h", now).unwrap().to_string(), "2025-10-09T07:53:20.000Z");
        assert_eq!(moment("812.0", now).unwrap().to_string(), "812.0");
        assert_eq!(moment("2026-03-01T12:00:00Z", now).unwrap().to_string(), "2026-03-01T12:00:00.000Z");
        assert!(moment("yesterday", now).is_err());
    }
}
