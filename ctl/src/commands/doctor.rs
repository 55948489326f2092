//! `doctor`: the ten troubles that are met most often, looked for here, in the cluster, and on each node by the node itself.
//!
//! ```text
//!   this machine: does each endpoint answer? does its clock agree? ──┐
//!   the cluster: quorum, silent nodes, versions                    ──┼──> sights ──> table, advice, exit status
//!   each node: GET /nodes/{name}/doctor                            ──┘
//! ```
//!
//! What a sight means was said by whoever saw it; here nothing is judged but what only this side can see.

use crate::{
    complete,
    context::Context,
    endpoint::Environment,
    exit::Failure,
    output::{Select, now},
    progress::Phase,
    views::doctor::{Sight, page},
};
use futures::future::join_all;
use std::collections::BTreeSet;
use waifud_api::{
    client::{Client, ClientError, Endpoint},
    cluster::ClusterStatus,
    doctor::{Check, Finding, NodeReport, Verdict},
    exit::Exit,
};
use waifud_model::name::NodeName;

/// A clock of this machine that is further off than this is told of. Both clocks are read within the time of one answer.
const CLOCK_ODD_MS: u64 = 5_000;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl doctor
  waifuctl doctor --node n2
  waifuctl doctor verdict=wrong -o json")]
pub(crate) struct Args {
    /// Only this node, as it sees itself
    #[arg(short = 'N', long, add = complete::nodes())]
    node: Option<NodeName>,
    #[command(flatten)]
    select: Select,
}

pub(crate) async fn run(context: &Context, global: &crate::cli::Global, args: &Args) -> Result<(), Failure> {
    context.out.check::<Sight>()?;
    let phase = context.progress.phase("looking");
    let sights = match &args.node {
        Some(name) => of_node(name, context.client.node_doctor(name).await.map(|answer| answer.value))?,
        None => everything(context, global, &phase).await?,
    };
    drop(phase);
    let wrong = sights.iter().filter(|sight| sight.verdict == Verdict::Wrong).count();
    let odd = sights.iter().filter(|sight| sight.verdict == Verdict::Warning).count();
    let sights = args.select.keep(sights)?;
    context.out.page_or_rows(&sights, |look| page(&sights, look))?;
    let things = |count: usize| if count == 1 { "1 thing is".to_owned() } else { format!("{count} things are") };
    match (wrong, odd) {
        (0, 0) => context.hint("all is well"),
        (0, odd) => context.hint(&format!("nothing is wrong; {} worth a look", things(odd))),
        (wrong, 0) => context.hint(&format!("{} wrong", things(wrong))),
        (wrong, odd) => context.hint(&format!("{} wrong, {} worth a look", things(wrong), things(odd))),
    }
    if wrong > 0 { Err(Failure::Told(Exit::Failed)) } else { Ok(()) }
}

async fn everything(context: &Context, global: &crate::cli::Global, phase: &Phase) -> Result<Vec<Sight>, Failure> {
    phase.doing("looking: the endpoints");
    let mut sights = join_all(context.target.endpoints.iter().map(|endpoint| meet(context, global, endpoint)))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let cluster = match context.client.cluster().await {
        Ok(answer) => answer.value,
        // The endpoints said already that and why nobody answers.
        Err(ClientError::Unreachable(_)) => return Ok(sights),
        Err(error) => return Err(error.into()),
    };
    sights.extend(of_cluster(&cluster));
    phase.doing("looking: the nodes");
    let asked = cluster.members.iter().filter(|member| member.alive).map(async |member| {
        let (before, answer) = (now(), context.client.node_doctor(&member.name).await);
        (&member.name, before, answer.map(|answer| answer.value))
    });
    let mut compared = false;
    for (name, before, report) in join_all(asked).await {
        // The node that answers is asked for its time, too; one is enough.
        if let (Ok(report), false) = (&report, std::mem::replace(&mut compared, true)) {
            sights.push(own_clock(before.0.0, report.at.0.0, now().0.0, name));
        }
        sights.extend(of_node(name, report)?);
    }
    Ok(sights)
}

/// Does this endpoint answer?
async fn meet(context: &Context, global: &crate::cli::Global, endpoint: &Endpoint) -> Result<Sight, Failure> {
    let mut config = context.target.config(global, &Environment::read())?;
    config.endpoints = vec![endpoint.clone()];
    let finding = match Client::new(config)?.cluster().await {
        Ok(answer) => Finding::well(Check::Other, format!("{} answers", answer.value.answered_by)),
        Err(ClientError::Unreachable(refusals) | ClientError::Unanswered(refusals)) => {
            let why = refusals.into_iter().next().map_or_else(|| "no answer".to_owned(), |refusal| refusal.reason);
            let remedy = match endpoint {
                Endpoint::Unix(_) => "systemctl status waifud; journalctl -u waifud",
                Endpoint::Https { .. } => "systemctl status waifud on it; is TCP 7443 open, and the CA the right one?",
            };
            Finding::wrong(Check::Other, why, "nothing can be asked there", remedy)
        }
        Err(ClientError::Problem(problem)) => {
            let remedy = problem.remedy.clone().unwrap_or_else(|| "waifuctl help contexts".to_owned());
            Finding::wrong(Check::Other, problem.detail.clone(), "it answers, but refuses", remedy)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Sight { check: "api".to_owned(), ..Sight::of(&endpoint.to_string(), finding) })
}

fn of_cluster(cluster: &ClusterStatus) -> Vec<Sight> {
    let mut found = Vec::new();
    found.push(match (cluster.quorum, &cluster.leader) {
        (true, Some(leader)) => Finding::well(Check::Quorum, format!("{leader} leads")),
        (true, None) => Finding::warning(
            Check::Quorum,
            "a majority is heard, but nobody leads at this moment",
            "changes wait until somebody does: a second or two",
            "waifuctl doctor, again",
        ),
        (false, _) => {
            let silent: Vec<_> = cluster.members.iter().filter(|m| !m.alive).map(|m| m.name.to_string()).collect();
            Finding::wrong(
                Check::Quorum,
                format!("no majority of the voters is heard; silent: {}", silent.join(", ")),
                "VMs run on and can be started and stopped on their nodes; nothing can be made, changed or deleted",
                "start waifud on the silent nodes, and see that UDP 7443 is open between all",
            )
        }
    });
    let versions: BTreeSet<_> = cluster.members.iter().filter_map(|member| member.version.as_deref()).collect();
    let listed: Vec<_> = versions.iter().copied().collect();
    found.push(match listed.as_slice() {
        [] => Finding::unknown(Check::Versions, "no node has told its version"),
        [one] => Finding::well(Check::Versions, format!("all run {one}")),
        several => Finding::warning(
            Check::Versions,
            format!("different ones run: {}", several.join(", ")),
            "fine during an upgrade; what only the newer can do waits until all can",
            "upgrade the others, one after the other: waifuctl cluster status shows which",
        ),
    });
    let mut sights: Vec<_> = found.into_iter().map(|finding| Sight::of("cluster", finding)).collect();
    // What the cluster itself advises, but for what was said just now.
    let others = cluster.advice.iter().filter(|advice| advice.code != "no_quorum");
    sights.extend(others.map(|advice| Sight {
        subject: "cluster".to_owned(),
        check: advice.code.clone(),
        // A node that is away is trouble for whoever has VMs there; the rest is advice.
        verdict: if advice.code == "node_silent" { Verdict::Wrong } else { Verdict::Warning },
        seen: advice.message.clone(),
        means: None,
        remedy: advice.remedy.clone(),
    }));
    sights
}

/// A node's findings, or that it does not answer.
fn of_node(name: &NodeName, report: Result<NodeReport, ClientError>) -> Result<Vec<Sight>, Failure> {
    match report {
        Ok(report) => Ok(report.findings.into_iter().map(|finding| Sight::of(name.as_str(), finding)).collect()),
        Err(ClientError::Problem(problem)) if problem.exit() == Exit::Unreachable => {
            let finding = Finding::wrong(
                Check::Other,
                problem.detail.clone(),
                "what runs there is not known",
                format!("on {name}: systemctl status waifud"),
            );
            Ok(vec![Sight { check: "node".to_owned(), ..Sight::of(name.as_str(), finding) }])
        }
        Err(error) => Err(error.into()),
    }
}

/// This machine's clock beside a node's, which was read some time between `before` and `after`.
fn own_clock(before: u64, node: u64, after: u64, name: &NodeName) -> Sight {
    let off = before.saturating_sub(node).max(node.saturating_sub(after));
    let finding = if off < CLOCK_ODD_MS {
        Finding::well(Check::Clock, format!("agrees with {name}'s"))
    } else {
        let seen = format!("{}.{:03} s off {name}'s", off / 1000, off % 1000);
        Finding::warning(
            Check::Clock,
            seen,
            "ages that are shown here are wrong by as much",
            "timedatectl set-ntp true",
        )
    };
    Sight::of("this machine", finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_only_blamed_for_what_the_journey_does_not_explain() {
        let name: NodeName = "n1".parse().unwrap();
        let verdict = |before, node, after| own_clock(before, node, after, &name).verdict;
        assert_eq!(verdict(100_000, 100_010, 100_020), Verdict::Well);
        assert_eq!(verdict(100_000, 104_000, 100_020), Verdict::Well);
        assert_eq!(verdict(100_000, 105_020, 100_020), Verdict::Warning);
        assert_eq!(verdict(100_000, 95_000, 100_020), Verdict::Warning);
    }
}
