//! Who speaks an old TLS is not spoken to: by a client that others wrote.

use super::support::three;
use anyhow::Result;
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_1_3_is_spoken() -> Result<()> {
    let cluster = three().await?;
    let address = format!("{}:7443", cluster.host(1).address());
    let greet = |version: &str| {
        let mut command = cluster.host(1).command("openssl");
        command.args(["s_client", "-connect", &address, "-brief", version]).stdin(Stdio::null()).output()
    };
    let spoken = greet("-tls1_3")?;
    let said = String::from_utf8_lossy(&spoken.stderr);
    assert!(said.contains("TLSv1.3"), "{said}");
    let refused = greet("-tls1_2")?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("alert protocol version"), "{said}");
    Ok(())
}
