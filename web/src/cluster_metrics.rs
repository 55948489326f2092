//! `/metrics?cluster=true`: the numbers of all nodes in one text, for a monitoring system that knows one address.
//!
//! In: what each node writes by itself; other nodes are asked through the [`Forwarder`](crate::ports::Forwarder) and have a
//! second. Out: the same samples, each with the label `node`, families together as OpenMetrics wants them, and `waifud_up`
//! of every member. A node that is silent, or of another version, takes nothing from the others.

use crate::{app::App, caller::Caller, ports::ForwardError};
use axum::body::{Body, to_bytes};
use futures::future::join_all;
use http::{Request, StatusCode};
use std::{collections::HashMap, fmt::Write as _, time::Duration};
use waifud_api::paths;
use waifud_model::{ids::NodeId, name::NodeName};

/// How long a node has. It counts what it has in memory; whoever takes longer is down for a monitoring system.
const PATIENCE: Duration = Duration::from_secs(1);

/// Much more than a node writes, whose labels do not grow with the VMs.
const TEXT_MAX: usize = 4 << 20;

/// The last line, without which a text was cut off.
const EOF: &str = "# EOF";

/// Says from which node a sample is.
const LABEL: &str = "node";

/// What a sample's own label `node` is called beside ours, as Prometheus calls it.
const THEIR_LABEL: &str = "exported_node";

/// Why a node's numbers are missing.
#[derive(Debug, thiserror::Error)]
enum GatherError {
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    #[error("it could not be reached")]
    Forward(#[from] ForwardError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the answer broke off")]
    Body(#[from] axum::Error),
    #[error("the answer is no text")]
    Text(#[from] std::string::FromUtf8Error),
    #[error("the answer was cut off")]
    CutOff,
    #[error("it took longer than {PATIENCE:?}")]
    Late,
}

/// The numbers of all `members`. `own` are those of this node.
pub(crate) async fn gather(app: &App, caller: &Caller, members: &[(NodeId, NodeName)], own: String) -> String {
    // All at once: as many as there are members, and a scrape is to end within its second.
    let asked = members.iter().filter(|(node, _)| *node != app.node).map(async |(node, name)| {
        let told = match tokio::time::timeout(PATIENCE, ask(app, caller, *node)).await {
            Ok(told) => told,
            Err(_) => Err(GatherError::Late),
        };
        if let Err(error) = &told {
            let error = error as &dyn std::error::Error;
            tracing::debug!(error, node = %name, "a node did not tell its numbers");
        }
        (name, told.ok())
    });
    let others = join_all(asked).await;
    let mut texts: Vec<(&NodeName, Option<String>)> = vec![(&app.name, Some(own))];
    texts.extend(others);
    texts.sort_by_key(|(name, _)| *name);
    merge(&texts)
}

async fn ask(app: &App, caller: &Caller, node: NodeId) -> Result<String, GatherError> {
    let request = Request::get(paths::METRICS).body(Body::empty())?;
    let response = app.forward(node, caller, request).await?;
    if response.status() != StatusCode::OK {
        return Err(GatherError::Status(response.status()));
    }
    let text = String::from_utf8(to_bytes(response.into_body(), TEXT_MAX).await?.into())?;
    if text.trim_end().ends_with(EOF) { Ok(text) } else { Err(GatherError::CutOff) }
}

/// One family of all nodes.
#[derive(Debug, Default)]
struct Family {
    /// `# HELP` and the like, of the first node that has the family.
    about: String,
    samples: String,
}

/// Puts texts of many nodes together; one that did not come says that its node is down.
fn merge(texts: &[(&NodeName, Option<String>)]) -> String {
    let mut out = "# HELP waifud_up 1 if the node told its numbers in time.\n# TYPE waifud_up gauge\n".to_owned();
    for (node, text) in texts {
        // Writing to a string does not fail.
        let _ = writeln!(out, "waifud_up{{{LABEL}=\"{node}\"}} {}", u8::from(text.is_some()));
    }
    let mut families: Vec<Family> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (node, text) in texts {
        let Some(text) = text else { continue };
        // What earlier nodes have told of needs no second introduction.
        let known = families.len();
        let mut current = None;
        for line in text.lines().take_while(|line| *line != EOF) {
            if let Some(about) = line.strip_prefix("# ") {
                let Some(name) = about.split(' ').nth(1) else { continue };
                let place = *places.entry(name).or_insert(families.len());
                if place == families.len() {
                    families.push(Family::default());
                }
                if place >= known {
                    families[place].about.push_str(line);
                    families[place].about.push('\n');
                }
                current = Some(place);
            } else if let Some(family) = current.and_then(|place| families.get_mut(place))
                && let Some(sample) = labelled(line, node)
            {
                family.samples.push_str(&sample);
                family.samples.push('\n');
            }
        }
    }
    for family in &families {
        out.push_str(&family.about);
        out.push_str(&family.samples);
    }
    out.push_str(EOF);
    out.push('\n');
    out
}

/// The sample with the label; none if the line is no sample.
fn labelled(line: &str, node: &NodeName) -> Option<String> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let Some(inner) = rest.strip_prefix('{') else {
        return Some(format!("{name}{{{LABEL}=\"{node}\"}}{rest}"));
    };
    let mut labels = format!("{LABEL}=\"{node}\"");
    let mut rest = inner;
    while !rest.starts_with('}') {
        let (label, value) = rest.split_once("=\"")?;
        let (value, after) = value.split_at(closing_quote(value)?);
        let label = if label == LABEL { THEIR_LABEL } else { label };
        // That a node names itself needs no second word.
        if label != THEIR_LABEL || value != node.as_str() {
            let _ = write!(labels, ",{label}=\"{value}\"");
        }
        rest = after.strip_prefix('"')?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(format!("{name}{{{labels}{rest}"))
}

/// Where a label's value ends: at the first quote that is not escaped.
fn closing_quote(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_get_their_node() {
        let node: NodeName = "n1".parse().unwrap();
        for (line, wanted) in [
            ("a_total 1", Some("a_total{node=\"n1\"} 1")),
            ("a{} 1", Some("a{node=\"n1\"} 1")),
            ("a{b=\"c\"} 1 1700000000.5", Some("a{node=\"n1\",b=\"c\"} 1 1700000000.5")),
            (r#"a{b="}\",\\",c="d"} 1"#, Some(r#"a{node="n1",b="}\",\\",c="d"} 1"#)),
            ("a{node=\"n1\",v=\"2\"} 1", Some("a{node=\"n1\",v=\"2\"} 1")),
            ("a{node=\"n9\"} 1", Some("a{node=\"n1\",exported_node=\"n9\"} 1")),
            ("", None),
            ("a{b=\"c", None),
            ("a{b} 1", None),
        ] {
            assert_eq!(labelled(line, &node).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn families_stay_together() {
        let (one, two, three) = ("n1".parse().unwrap(), "n2".parse().unwrap(), "n3".parse().unwrap());
        let first = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let second = "# HELP c C.\n# TYPE c gauge\nc 3\n# HELP a Other.\n# TYPE a counter\na_total 4\n# EOF\n";
        let told = merge(&[(&one, Some(first.to_owned())), (&two, Some(second.to_owned())), (&three, None)]);
        expect_test::expect![[r#"
            # HELP waifud_up 1 if the node told its numbers in time.
            # TYPE waifud_up gauge
            waifud_up{node="n1"} 1
            waifud_up{node="n2"} 1
            waifud_up{node="n3"} 0
            # HELP a A.
            # TYPE a counter
            a_total{node="n1"} 1
            a_total{node="n2"} 4
            # HELP b B.
            # TYPE b gauge
            b{node="n1"} 2
            # HELP c C.
            # TYPE c gauge
            c{node="n2"} 3
            # EOF
        "#]]
        .assert_eq(&told);
    }
}
