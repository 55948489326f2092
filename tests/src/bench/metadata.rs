//! The metadata service, asked by guests on its node, beside nginx with the same document in a file: on the same bridge, and
//! on the bridge of another node, which is the same tunnel twice. Then again with the shared cache stopped.

use super::{
    documents::{Document, Gets},
    idle::cpu_of_family,
    load::{self, Measured, Pace},
    records::{add_tiny, settle},
    scale::Scale,
    stand_in::{StandIn, create_vms},
    table::{Figure, Table},
};
use crate::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Host, Lab, Redis, tiny_image},
};
use anyhow::Result;
use bytes::Bytes;
use nix::sys::signal::Signal;
use std::{fs, net::Ipv4Addr, time::Duration};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// Of the document, in bytes.
const SIZE: usize = 2048;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PATH: &str = "/user-data";
/// After this no guest has asked too often, whatever it asked before: what it may ask at once, 400 times, at 100 a second.
const REST: Duration = Duration::from_secs(4);
/// Where nginx has its files, on its host.
const DIR: &str = "/var/lib/waifud/nginx";

/// As the package has it but for the log of requests, which waifud does not write either. Connections are not closed while
/// they are wanted.
const NGINX: &str = "
user root;
worker_processes auto;
daemon off;
pid nginx.pid;
error_log stderr;
events { worker_connections 768; }
http {
	sendfile on;
	tcp_nopush on;
	access_log off;
	keepalive_requests 1000000;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen 80;
		root files;
	}
}
";

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    // Made before a lab waits for it.
    tiny_image()?;
    let lab = Lab::new(3)?;
    let mut redis = Redis::start(lab.host(3))?;
    let cache = format!("[cache]\nredis_url = \"redis://{}:{}\"\n", lab.host(3).address(), Redis::PORT);
    let mut cluster = Cluster::start(lab, &format!("cpus = 400\n{WITH_GUESTS}{cache}")).await?;
    add_tiny(&cluster).await?;
    progress("metadata: VMs");
    let body = body();
    let mut near = create_vms(&cluster, 1, scale.askers + 1, &body).await?;
    let far = create_vms(&cluster, 2, 1, &body).await?;
    settle(&cluster, 1, scale.askers + 2).await?;
    let askers = StandIn::plug(cluster.host(1), near.split_off(1), &["sleep", "infinity"])?;
    let near = nginx(cluster.host(1), near, &body)?;
    let far = nginx(cluster.host(2), far, &body)?;

    // Half as long as others are asked: 250 guests may ask 100,000 times at once, and 25,000 times a second after that.
    let pace = Pace { warm_up: scale.pace.warm_up / 2, time: scale.pace.time / 2 };
    let (here, there) = (cluster.daemon(1).pid(), cluster.daemon(2).pid());
    progress("metadata: waifud");
    let ours = fetch(&askers, METADATA, &body, &[here], pace).await?;
    progress("metadata: nginx on the same bridge");
    let bridge = fetch(&askers, near.address(), &body, &[near.pid()], pace).await?;
    progress("metadata: nginx on another node");
    let tunnel = fetch(&askers, far.address(), &body, &[here, there, far.pid()], pace).await?;
    progress("metadata: waifud, while the cache hangs");
    redis.process().signal(Signal::SIGSTOP)?;
    tokio::time::sleep(REST).await;
    let hung = fetch(&askers, METADATA, &body, &[here], pace).await?;

    table.part(format!("Metadata, {SIZE} bytes, {CONNECTIONS} connections"), "nginx beside");
    rows(table, &ours, &bridge, ["", ""]);
    table.part("The same, beside nginx on another node's bridge", "nginx, mesh");
    rows(table, &ours, &tunnel, [">= 0.5", "<= 5 ms"]);
    table.part("The same while Redis hangs, beside Redis that answers", "Redis well");
    rows(table, &hung, &ours, ["same", "same"]);
    Ok(())
}

fn rows(table: &mut Table, ours: &Fetched, beside: &Fetched, [rate, p99]: [&'static str; 2]) {
    let ms = |fetched: &Fetched, share| Figure::ms(fetched.took.quantile(share));
    table.row("requests", Figure::PerSecond(ours.took.rate()), Figure::PerSecond(beside.took.rate()), rate);
    table.row("p50", ms(ours, 0.5), ms(beside, 0.5), "");
    table.row("p99", ms(ours, 0.99), ms(beside, 0.99), p99);
    table.row("CPU of those who serve and carry, 1,000 requests", Figure::Ms(ours.cpu), Figure::Ms(beside.cpu), "");
}

/// What asking came to.
#[derive(Debug)]
struct Fetched {
    took: Measured,
    /// Milliseconds of CPU for 1,000 requests, of the processes that serve and carry them: unlike the rate, hardly anybody
    /// else's work on the machine is in it.
    cpu: f64,
}

async fn fetch(from: &StandIn, server: Ipv4Addr, body: &Bytes, servers: &[i32], pace: Pace) -> Result<Fetched> {
    let document = Document::new(server, PATH, body.clone(), from.addresses());
    let first = document.clone();
    from.run(async move || {
        wait("the first document", async || first.once().await.ok()).await?;
        first.once_from_each().await
    })
    .await?;
    let cpu = || servers.iter().map(|pid| cpu_of_family(*pid)).sum::<Result<f64>>();
    let before = cpu()?;
    let load = async move || load::drive((0..CONNECTIONS).map(|_| Gets::new(document.clone())).collect(), pace).await;
    let took = from.run(load).await?;
    let cpu = (cpu()? - before) * 1e6 / took.written();
    Ok(Fetched { took, cpu })
}

/// A script, for nobody changes a byte of one.
fn body() -> Bytes {
    let mut text = "#!/bin/sh\n# ".to_owned();
    text.extend(std::iter::repeat_n('x', SIZE - text.len() - 1));
    text.push('\n');
    text.into()
}

/// nginx, in place of a guest.
fn nginx(host: &Host, vms: Vec<Ipv4Addr>, body: &[u8]) -> Result<StandIn> {
    let dir = host.path(DIR);
    fs::create_dir_all(dir.join("files"))?;
    fs::write(dir.join("nginx.conf"), NGINX)?;
    fs::write(dir.join("files").join(PATH.trim_start_matches('/')), body)?;
    StandIn::plug(host, vms, &["nginx", "-p", DIR, "-c", "nginx.conf", "-e", "stderr"])
}
