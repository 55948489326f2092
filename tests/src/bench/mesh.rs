//! Bytes from a guest of one node to a guest of another: through waifud's mesh, then through a stock program in its place.
//!
//! Guests, bridges, routes, the firewall and the MTU are the same for all; iperf3 makes the streams. The daemons are stopped
//! before a stock program takes over the interface's name. What the nodes do besides carrying bytes is in waifud's CPU too.

use super::{
    idle::cpu_seconds,
    records::add_tiny,
    scale::Scale,
    stand_in::{MTU, StandIn, create_vms},
    stock::{self, Stock},
    table::{Figure, Table},
};
use crate::{
    cluster::{Cluster, SOON, WITH_GUESTS},
    lab::{Lab, eventually, tiny_image},
};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::time::Duration;
use tokio::task::block_in_place;

/// TCP streams at once: one as a copy of a file, eight as many guests.
const STREAMS: [usize; 2] = [1, 8];
/// For a daemon to end.
const GRACE: Duration = Duration::from_secs(30);

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    // Made before a lab waits for it.
    tiny_image()?;
    let mut cluster = Cluster::start(Lab::new(3)?, WITH_GUESTS).await?;
    add_tiny(&cluster).await?;
    let plug = async |node, program: &[&str]| {
        let vm = create_vms(&cluster, node, 1, b"#!/bin/sh\n").await?;
        StandIn::plug(cluster.host(node), vm, program)
    };
    let (from, to) = (plug(1, &["sleep", "infinity"]).await?, plug(2, &["iperf3", "--server"]).await?);

    progress("mesh: waifud");
    let carriers = [cluster.daemon(1).pid(), cluster.daemon(2).pid()];
    let ours = block_in_place(|| carry(&from, &to, carriers, scale))?;
    for index in 1..=cluster.lab().hosts().len() {
        cluster.daemon(index).terminate(GRACE)?;
    }
    let installed = stock::installed();
    if installed.is_empty() {
        rows(table, scale, "", &ours, &[]);
    }
    for program in installed {
        progress(&format!("mesh: {program}"));
        let theirs = block_in_place(|| {
            let ends = [(cluster.host(1), from.address()), (cluster.host(2), to.address())];
            let stock = Stock::start(program, ends)?;
            carry(&from, &to, stock.pids(), scale).with_context(|| stock.log())
        })?;
        rows(table, scale, program, &ours, &theirs);
    }
    Ok(())
}

fn rows(table: &mut Table, scale: &Scale, program: &str, ours: &[Carried], theirs: &[Carried]) {
    table.part(format!("Guest to guest by the mesh, MTU {MTU}, median of {}", scale.rounds), program);
    let goal = if program == stock::BORINGTUN { ">= 1.5" } else { "" };
    for (at, (ours, streams)) in ours.iter().zip(STREAMS).enumerate() {
        let theirs = theirs.get(at);
        table.row(format!("{streams} TCP, rate"), Figure::Gbit(ours.gbit), theirs.map(|t| Figure::Gbit(t.gbit)), goal);
        let cpu = |carried: &Carried| Figure::CpuPerGB(carried.cpu);
        table.row(format!("{streams} TCP, CPU of both ends"), cpu(ours), theirs.map(cpu), "");
    }
}

/// What came through.
#[derive(Debug, Clone, Copy)]
struct Carried {
    /// 10⁹ bits a second.
    gbit: f64,
    /// Seconds of CPU of both carriers for 10⁹ bytes.
    cpu: f64,
}

/// Medians, for each number of streams.
fn carry(from: &StandIn, to: &StandIn, carriers: [i32; 2], scale: &Scale) -> Result<Vec<Carried>> {
    eventually("a way from guest to guest", SOON, || iperf3(from, to, 1, Duration::from_secs(1)).ok())?;
    let cpu = || anyhow::Ok(cpu_seconds(carriers[0])? + cpu_seconds(carriers[1])?);
    let mut medians = Vec::new();
    for streams in STREAMS {
        let (mut gbit, mut cpus) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let before = cpu()?;
            let received = iperf3(from, to, streams, scale.bulk)?;
            gbit.push(received.bits_per_second / 1e9);
            cpus.push((cpu()? - before) / (received.bytes / 1e9));
        }
        medians.push(Carried { gbit: median(gbit), cpu: median(cpus) });
    }
    Ok(medians)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The part of iperf3's report that is wanted: what the other end has received, or why not.
#[derive(Debug, Deserialize)]
struct Report {
    end: End,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct End {
    sum_received: Option<Received>,
}

#[derive(Debug, Deserialize)]
struct Received {
    bytes: f64,
    bits_per_second: f64,
}

fn iperf3(from: &StandIn, to: &StandIn, streams: usize, time: Duration) -> Result<Received> {
    let (to, streams, time) = (to.address().to_string(), streams.to_string(), time.as_secs().to_string());
    let arguments = ["--client", &to, "--parallel", &streams, "--time", &time, "--connect-timeout", "1000", "--json"];
    let run = || {
        let report: Report = serde_json::from_str(&from.exec("iperf3", &arguments)?).context("iperf3's report")?;
        anyhow::Ok(report)
    };
    // The server takes one client at a time, and may not have done with the last one.
    let busy = |report: &Result<Report>| {
        report.as_ref().is_ok_and(|report| report.error.as_ref().is_some_and(|error| error.contains("busy")))
    };
    let report = eventually("iperf3's server to be free", SOON, || Some(run()).filter(|report| !busy(report)))??;
    let error = report.error.unwrap_or_default();
    report.end.sum_received.with_context(|| format!("iperf3 received nothing: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_received() {
        let said = r#"{"start":{},"end":{"streams":[],"sum_sent":{"bytes":9},"sum_received":{"start":0,"bytes":125000000,"bits_per_second":1e9,"sender":true}}}"#;
        let received = serde_json::from_str::<Report>(said).unwrap().end.sum_received.unwrap();
        assert_eq!((received.bytes, received.bits_per_second), (125e6, 1e9));
        let said = r#"{"end":{},"error":"error - the server is busy"}"#;
        assert!(serde_json::from_str::<Report>(said).unwrap().end.sum_received.is_none());
    }

    #[test]
    fn a_median_of_few() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
