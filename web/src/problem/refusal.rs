//! Words for "no node can take it": the reason of each node.

use waifud_api::problem::{Problem, ProblemCode};
use waifud_model::placement::{Refusal, Why};

/// Words for a refusal of placement.
pub(super) fn words(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::NoSuchNode(name) => {
            Problem::new(ProblemCode::NoSuchNode, format!("no node \"{name}\"")).with_remedy("waifuctl node list")
        }
        Refusal::NoNodes => Problem::new(ProblemCode::NotInitialised, "the cluster has no nodes"),
        Refusal::NoneFits(all) => {
            // Where one node was asked for, that the others were not is no news.
            let asked = all.iter().filter(|(_, why)| *why != Why::NotAsked);
            let reasons: Vec<_> = asked.map(|(name, why)| (name.clone(), why.to_string())).collect();
            let detail = match reasons.as_slice() {
                [(name, why)] => format!("node {name} cannot take the VM: it {why}"),
                _ => {
                    let listed: Vec<String> = reasons.iter().map(|(name, why)| format!("{name} {why}")).collect();
                    format!("no node can take the VM: {}", listed.join("; "))
                }
            };
            let problem = Problem::new(ProblemCode::NoNodeFits, detail).with_remedy(remedy(all));
            reasons.into_iter().fold(problem, |problem, (name, why)| problem.with_node(name, why))
        }
    }
}

/// The shortest way out that one of the nodes offers.
fn remedy(all: &[(waifud_model::name::NodeName, Why)]) -> String {
    if let Some((name, _)) = all.iter().find(|(_, why)| *why == Why::Cordoned) {
        return format!("waifuctl node uncordon {name}, or make room: waifuctl node list shows what is promised");
    }
    if all.iter().any(|(_, why)| matches!(why, Why::Short(_) | Why::Threads { .. })) {
        return "choose a smaller VM, or delete one: waifuctl node list shows what is promised".to_owned();
    }
    "waifuctl node list shows how the nodes are".to_owned()
}
