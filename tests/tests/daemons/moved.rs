//! A node gets another address: it says so at its next start, the others follow, and it keeps its place and its VMs. With the leader
//! too, and with one after the other until nobody is where the cluster was made.

use super::support::{key, small, three_with_template};
use anyhow::{Context, Result};
use std::{fs, net::SocketAddr};
use waifud_tests::cluster::{Cluster, SOON, wait};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_move_to_other_addresses_and_keep_their_place() -> Result<()> {
    let mut cluster = three_with_template().await?;
    let leader = cluster.leader(1).await?;
    let ids = ids(&cluster).await?;
    for index in (1..=3).filter(|index| *index != leader).chain([leader]) {
        let mut request = small(&format!("web-{index}"));
        request.node = Some(cluster.host(index).name().parse()?);
        cluster.client(leader).create_vm(&request, &key(&format!("make-{index}"))).await?;
        moves(&mut cluster, index).await?;
        // It is asked, and does what it is asked for.
        let made =
            cluster.client(index).create_vm(&small(&format!("after-{index}")), &key(&format!("after-{index}"))).await;
        made.with_context(|| format!("through n{index}, where it is now"))?;
        let name = request.name.context("a name")?;
        cluster.client(index % 3 + 1).delete_vm(&name).await?;
        wait("its VM to be gone, by its own word", async || {
            cluster.client(1).vm(&name).await.err()?.problem().map(drop)
        })
        .await?;
        let output = cluster.waifuctl(index % 3 + 1, &["history", &format!("node/n{index}")])?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains(&format!("192.0.2.{index}:7443→192.0.2.{}:7443", 100 + index)), "{told}");
    }
    assert_eq!(self::ids(&cluster).await?, ids, "they are who they were");
    Ok(())
}

async fn ids(cluster: &Cluster) -> Result<Vec<String>> {
    Ok(cluster.client(1).nodes().await?.value.iter().map(|node| format!("{} {}", node.name, node.id)).collect())
}

/// The machine is given another address, and its configuration says so.
async fn moves(cluster: &mut Cluster, index: usize) -> Result<()> {
    cluster.daemon(index).terminate(SOON)?;
    let host = cluster.host(index);
    let (before, now) = (host.address().to_string(), format!("192.0.2.{}", 100 + index));
    for (verb, address) in [("delete", &before), ("add", &now)] {
        host.exec("ip", ["address", verb, &format!("{address}/24"), "dev", "eth0"])?;
    }
    let file = host.path("/etc/waifud/waifud.toml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace(&format!("\"{before}:7443\""), &format!("\"{now}:7443\"")))?;
    cluster.start_daemon(index)?;
    let (name, now): (_, SocketAddr) = (cluster.host(index).name().to_owned(), format!("{now}:7443").parse()?);
    for asked in 1..=3 {
        let client = cluster.client(asked);
        wait(&format!("n{asked} to find {name} at {now}"), async || {
            let nodes = client.nodes().await.ok()?.value;
            let is_there = nodes.iter().any(|node| node.name.as_str() == name && node.address == now);
            let status = client.cluster().await.ok()?.value;
            (is_there && nodes.iter().all(|node| node.alive) && status.quorum && status.leader.is_some()).then_some(())
        })
        .await?;
    }
    Ok(())
}
