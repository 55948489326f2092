//! A waifud that ends and is started again, as by an upgrade or after a crash, under guests that go on asking and talking:
//! there is a gap, it ends, and nobody is ever told what is another's. Also how far an answer of the metadata service goes.

use super::{
    guest::Guest,
    shell::Shell,
    support::{measured, three_of, tiny},
};
use anyhow::{Context, Result};
use std::time::Instant;
use waifud_tests::{
    cluster::{Cluster, SOON},
    lab::{Lab, eventually},
};

/// What runs in a guest meanwhile: each line of the log is the uptime at which an answer came, and the answer.
const ASKING: &str = "{ while :; do \
    a=$(timeout 1 wget -q -O - http://169.254.169.254/latest/user-data) && \
    echo \"$(cut -d' ' -f1 /proc/uptime) ${a##*# }\"; usleep 50000; done >> /asked & }";
/// One TCP connection that says something all the time, and its other end.
const TALKING: &str = "{ nc -ll -p 9000 -e sh -c 'while echo of peer; do usleep 50000; done' < /dev/null & }";
const LISTENING: &str = "{ nc PEER 9000 < /dev/null | while read -r a; do \
    echo \"$(cut -d' ' -f1 /proc/uptime) $a\"; done >> /heard & }";
/// Ten echoes a second, and how many of them were lost in a row.
const PINGING: &str = "{ ping -i 0.1 PEER >> /echoes & }";
const LOST: &str = "grep seq= /echoes | awk '{ sub(/.*seq=/, \"\"); \
    if (NR > 1 && $1 - last - 1 > lost) lost = $1 - last - 1; last = $1 } END { print NR, lost + 0 }'";
/// How many answers came, the longest time without one, when the last came, and how many were not as they have to be.
const SUMMARY: &str = "awk -v right='RIGHT' '\
    { if (last && $1 - last > gap) gap = $1 - last; last = $1; if (substr($0, length($1) + 2) != right) wrong++ } \
    END { print NR, gap + 0, last + 0, wrong + 0 }' FILE";

/// What a log in the guest says.
#[derive(Debug)]
struct Log {
    answers: u64,
    /// Seconds.
    gap: f64,
    /// Seconds of the guest's uptime.
    last: f64,
    wrong: u64,
}

fn log(shell: &mut Shell, file: &str, right: &str) -> Result<Log> {
    let said = shell.run(&SUMMARY.replace("RIGHT", right).replace("FILE", file))?;
    let mut words = said.output.split_whitespace();
    let mut next = || words.next().with_context(|| format!("{said:?}"));
    Ok(Log { answers: next()?.parse()?, gap: next()?.parse()?, last: next()?.parse()?, wrong: next()?.parse()? })
}

fn uptime(shell: &mut Shell) -> Result<f64> {
    Ok(shell.run("cut -d' ' -f1 /proc/uptime")?.output.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_waifud_is_a_short_gap_and_confuses_nobody() -> Result<()> {
    let mut cluster = three_of(Lab::new(3)?, "").await?;
    let files = tempfile::tempdir()?;
    let own = |name: &str| -> Result<String> {
        let file = files.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n# of {name}\n"))?;
        file.into_os_string().into_string().ok().context("a path that is text")
    };
    let (first, second) = (own("asker")?, own("other")?);
    let (first, second) = (["-u", &first], ["-u", &second]);
    // The other is on the same node and asks as well: whom there is to be confused with.
    let (asker, other, peer) = tokio::try_join!(
        tiny(&cluster, "asker", "n2", &first),
        tiny(&cluster, "other", "n2", &second),
        tiny(&cluster, "peer", "n3", &[]),
    )?;
    let mut shells = [Shell::open(&cluster, &asker)?, Shell::open(&cluster, &other)?];
    answers_do_not_go_beyond_the_guest(&cluster, &asker, &mut shells[0])?;

    let guests = [&asker, &other, &peer];
    let processes = guests.map(|guest| guest.process(&cluster));
    assert!(Shell::open(&cluster, &peer)?.run(TALKING)?.succeeded());
    for shell in &mut shells {
        assert!(shell.run(ASKING)?.succeeded());
    }
    for command in [LISTENING, PINGING] {
        assert!(shells[0].run(&command.replace("PEER", &peer.ip))?.succeeded());
    }
    for how in ["terminated", "killed"] {
        all_go_on(&mut shells)?;
        let since = Instant::now();
        match how {
            "killed" => cluster.daemon(2).kill9()?,
            _ => drop(cluster.daemon(2).terminate(SOON)?),
        }
        let ended = since.elapsed();
        cluster.start_daemon(2)?;
        let answered = since.elapsed();
        let Gaps { metadata, connection, echoes } = all_go_on(&mut shells)?;
        measured(&format!(
            "waifud {how}: ended after {ended:.1?}, its API answered again after {answered:.1?}; of ten echoes a second \
             between guests of two nodes {echoes} were lost; a connection between them stood still for {connection:.1} s, \
             and a guest that asked again and again was without metadata for {metadata:.1} s"
        ));
        // What was measured so far is of this restart alone.
        shells[0].run(": > /asked; : > /heard; : > /echoes")?;
    }
    assert_eq!(guests.map(|guest| guest.process(&cluster)), processes, "the guests run on");
    assert!(guests.iter().all(|guest| guest.boots(&cluster) == 1), "and were not started again");
    Ok(())
}

/// The longest times without an answer, in seconds, and the most echoes lost in a row.
struct Gaps {
    metadata: f64,
    connection: f64,
    echoes: u64,
}

/// Waits until answers come from now on, and checks all there were.
fn all_go_on(shells: &mut [Shell; 2]) -> Result<Gaps> {
    let [asker, other] = shells;
    let (before, _) = echoes(asker)?;
    let connection = goes_on(asker, "/heard", "of peer")?.gap;
    goes_on(other, "/asked", "of other")?;
    let metadata = goes_on(asker, "/asked", "of asker")?.gap;
    let echoes = eventually("echoes", SOON, || echoes(asker).ok().filter(|(count, _)| *count > before))?.1;
    Ok(Gaps { metadata, connection, echoes })
}

fn echoes(shell: &mut Shell) -> Result<(u64, u64)> {
    let said = shell.run(LOST)?;
    let (count, lost) = said.output.split_once(' ').with_context(|| format!("{said:?}"))?;
    Ok((count.parse()?, lost.parse()?))
}

fn goes_on(shell: &mut Shell, file: &str, right: &str) -> Result<Log> {
    let now = uptime(shell)?;
    let found = eventually(&format!("{file} to go on"), SOON, || {
        log(shell, file, right).ok().filter(|log| log.answers > 0 && log.last > now)
    })?;
    assert_eq!(found.wrong, 0, "{file} has answers that are not {right:?}: {found:?}");
    Ok(found)
}

/// Counts what the metadata service sends to the guest, by how far it may still go.
const COUNTERS: &str = "
add table bridge far
add counter bridge far answers
add counter bridge far ones
add chain bridge far out { type filter hook postrouting priority 0; }
add rule bridge far out ip saddr 169.254.169.254 ip daddr GUEST counter name answers
add rule bridge far out ip saddr 169.254.169.254 ip daddr GUEST ip ttl 1 counter name ones
";

/// A guest that forwards packets of others, of containers or because it was talked into it, cannot pass an answer on: it
/// arrives with a hop limit of 1. A session token is among these answers.
fn answers_do_not_go_beyond_the_guest(cluster: &Cluster, guest: &Guest, shell: &mut Shell) -> Result<()> {
    let host = guest.host(cluster);
    host.exec("nft", [COUNTERS.replace("GUEST", &guest.ip)])?;
    let request = "PUT /latest/api/token HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\n\
                   X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nConnection: close\\r\\n\\r\\n";
    let said = shell.run(&format!("printf '{request}' | timeout 10 nc 169.254.169.254 80"))?;
    assert!(said.output.contains(" 200 "), "{said:?}");
    let count = |name: &str| -> Result<u64> {
        let told = host.exec("nft", ["list", "counter", "bridge", "far", name])?;
        let packets = told.split_once("packets ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(packets.context("nft counts no packets")?.parse()?)
    };
    let all = count("answers")?;
    assert!(all >= 2, "a connection and an answer are at least two packets, not {all}");
    assert_eq!(count("ones")?, all, "each has a hop limit of 1");
    host.exec("nft", ["delete table bridge far"]).map(drop)
}
