//! The server does what its OpenAPI document says, and nothing else: tried from outside, over HTTPS with a token, by a tool
//! that knows only the document.

use super::support::{disk_image, key, small, text};
use anyhow::{Context, Result};
use std::{path::Path, process::Command};
use waifud_api::token::ApiTokenCreate;
use waifud_model::token::Role;
use waifud_tests::{
    cluster::{Cluster, WITHOUT_GUESTS},
    lab::Lab,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/schemathesis.sh");

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_what_its_document_says() -> Result<()> {
    // Hosts of the lab reach no package index, so this comes before them.
    let installed = Command::new(SCRIPT).arg("install").status()?;
    assert!(installed.success(), "schemathesis cannot be installed");
    let cluster = Cluster::start(Lab::plain(1)?, WITHOUT_GUESTS).await?;
    let dir = tempfile::tempdir()?;
    let image = disk_image(dir.path())?;
    assert!(cluster.waifuctl(1, &["template", "add", "disk", "--file", text(&image)])?.status.success());
    let client = cluster.client(1);
    // What the document's examples are about.
    client.create_vm(&small("web-1"), &key("k")).await?;
    let description = "all questions".to_owned();
    let token = ApiTokenCreate { role: Role::Admin, description, valid_seconds: None, scope: None };
    let token = client.create_api_token(&token).await?.value.token;
    let (token_file, ca) = (dir.path().join("token"), dir.path().join("ca.pem"));
    std::fs::write(&token_file, token)?;
    std::fs::write(&ca, authority(&cluster.host(1).path("/var/lib/waifud/cluster/identity"))?)?;
    let url = format!("https://{}:7443", cluster.host(1).address());
    let asked = cluster.host(1).command(SCRIPT).args(["run", &url, text(&token_file), text(&ca)]).output()?;
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}\n{}", String::from_utf8_lossy(&asked.stderr));
    // It has really asked: a document that cannot be read would ask nothing.
    let operations = client_document_operations(&said).context("the tool does not say how much it asked")?;
    assert!(operations > 30, "{said}");
    Ok(())
}

/// The certificate of the cluster's CA: the last of those that a node has.
pub(crate) fn authority(identity: &Path) -> Result<String> {
    let begin = "-----BEGIN CERTIFICATE-----";
    for file in std::fs::read_dir(identity)? {
        let text = std::fs::read_to_string(file?.path())?;
        if let Some(last) = text.split(begin).skip(1).last() {
            let end = last.find("-----END CERTIFICATE-----").context("a certificate without an end")?;
            return Ok(format!("{begin}{}-----END CERTIFICATE-----\n", &last[..end]));
        }
    }
    anyhow::bail!("no certificate in {}", identity.display())
}

/// How many operations were asked about, by the tool's own word.
fn client_document_operations(said: &str) -> Option<usize> {
    let line = said.lines().find(|line| line.contains("Selected:"))?;
    line.split(['/', ' ']).find_map(|word| word.trim().parse().ok())
}
