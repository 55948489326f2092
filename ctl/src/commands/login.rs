//! `login`: the first meeting with a cluster. Its CA is shown, compared by a person, and pinned; a token is taken in and kept;
//! and only what was seen to work is noted as a context.
//!
//! ```text
//!   host trusts its certificate? ──yes──> nothing is pinned ──┐
//!     └─no─> shows its CA ──> person agrees ──> pinned ───────┴──> token ──> asks as whom it may ──> noted
//! ```
//!
//! The token is never sent before the other side has proved to be the cluster.

use super::context::{in_use, put};
use crate::{
    confirm,
    context::Terms,
    endpoint::{read, read_text},
    exit::Failure,
    secret,
    settings::{self, ContextName, Host, Place},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use waifud_api::{
    client::{Client, ClientError, Config, Endpoint, presented},
    cluster::CaFingerprint,
    exit::Exit,
};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl login https://n1:7443
  waifuctl login https://n1,https://n2,https://n3 --name home
  waifuctl login https://n1 --fingerprint 9f3c21… --token-file - < token

On a node, `waifuctl cluster status` shows the fingerprint to compare, and `waifuctl token create` makes the token.")]
pub(crate) struct Args {
    /// Where its nodes' APIs are; several are tried in turn whenever one is away
    #[arg(value_name = "URL[,URL…]")]
    at: String,
    /// What to call the context [default: the first host's name]
    #[arg(long)]
    name: Option<ContextName>,
    /// The SHA-256 fingerprint that the cluster's CA must have; without it you are asked
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// The machine that ssh goes through where guests are not routed
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    jump: Option<String>,
}

/// The name of a context, by its first host.
fn named(endpoint: &Endpoint) -> Result<ContextName, Failure> {
    let Endpoint::Https { host, .. } = endpoint else {
        return Err(Failure::Usage("login is for https endpoints; a socket needs none".to_owned()));
    };
    let word: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    word.trim_matches(['-', '.']).parse().map_err(|why| Failure::Usage(format!("{why}; give --name")))
}

pub(crate) async fn run(
    terms: &Terms,
    args: Args,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
) -> Result<(), Failure> {
    let endpoints = Endpoint::parse_list(&args.at).map_err(|e| Failure::Usage(e.to_string()))?;
    let first = endpoints.first().ok_or_else(|| Failure::Usage("no endpoint is given".to_owned()))?;
    let name = args.name.clone().map_or_else(|| named(first), Ok)?;
    if let Some(one) = endpoints.iter().find(|one| matches!(one, Endpoint::Unix(_))) {
        return Err(Failure::Usage(format!("login is for https endpoints; {one} needs none")));
    }
    let ca = match &ca_file {
        Some(file) => Some(read(file)?),
        None => meet(terms, &endpoints, args.fingerprint.as_deref()).await?,
    };
    let token = token(terms, token_file).await?;
    let config = |endpoints| Config { token: Some(token.clone()), ca_pem: ca.clone(), ..Config::new(endpoints) };
    // Each must be of this cluster and take the token, or the first failover would be the first to find out.
    for endpoint in &endpoints {
        let client = Client::new(config(vec![endpoint.clone()]))?;
        match client.cluster().await {
            Ok(answer) => terms.progress.done(&format!("{endpoint} answers"), answer.value.answered_by.as_str()),
            // One that is away today may be back tomorrow, as long as another vouches for token and CA.
            Err(error @ ClientError::Unreachable(_)) if endpoints.len() > 1 => terms.hint(&format!("warning: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Client::new(config(endpoints.clone()))?.cluster().await?;
    let mut settings = terms.settings.clone();
    // To log in again is to replace what the last login left.
    settings.contexts.remove(&name);
    let place = Place {
        hosts: endpoints.into_iter().map(Host).collect(),
        token_file: Some(settings::keep(&format!("{name}.token"), format!("{token}\n").as_bytes())?),
        ca_file: ca.map(|pem| settings::keep(&format!("{name}.ca.pem"), &pem)).transpose()?,
        jump: args.jump,
    };
    settings.current = Some(name.clone());
    put(&mut settings, &name, place)?;
    terms.progress.done(&format!("logged in to {name}"), &in_use(&settings));
    Ok(())
}

/// The CA to be pinned, agreed with; none where the host trusts the endpoint's certificate anyway.
async fn meet(terms: &Terms, endpoints: &[Endpoint], wanted: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
    let mut refusals = Vec::new();
    for endpoint in endpoints {
        let chain = match presented(endpoint).await {
            Ok(chain) => chain,
            Err(ClientError::Unreachable(why)) => {
                refusals.extend(why);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if wanted.is_none() && trusted(endpoint).await? {
            return Ok(None);
        }
        // A node shows its own certificate and then the CA's.
        let Some(ca) = chain.last() else { continue };
        let shown = fingerprint(ca);
        match wanted {
            Some(wanted) if hex(wanted) == hex(&shown) => {}
            Some(_) => {
                let message = format!("{endpoint} shows a CA with another fingerprint: {shown}");
                return Err(Failure::ended(Exit::NotAllowed, message, "waifuctl cluster status, on a node"));
            }
            None => {
                terms.hint(&format!("{endpoint} shows a CA that nothing here vouches for yet, with the fingerprint"));
                terms.hint(&format!("  {shown}"));
                confirm::agree(terms, "Is it the one that `waifuctl cluster status` shows on a node?").await?;
            }
        }
        return Ok(Some(pem(ca)));
    }
    Err(ClientError::Unreachable(refusals).into())
}

/// Does the host's own trust store vouch for the endpoint? Only a public question is asked, without a token.
async fn trusted(endpoint: &Endpoint) -> Result<bool, Failure> {
    match Client::new(Config::new(vec![endpoint.clone()]))?.cluster().await {
        // Without a token it is refused; that it could refuse shows that TLS was well.
        Ok(_) | Err(ClientError::Problem(_) | ClientError::Protocol { .. }) => Ok(true),
        Err(_) => Ok(false),
    }
}

async fn token(terms: &Terms, file: Option<PathBuf>) -> Result<String, Failure> {
    let given = match file {
        Some(file) if crate::documents::is_stdin(&file) => secret::from_stdin()?,
        Some(file) => read_text(&file)?.trim().to_owned(),
        None => match std::env::var("WAIFU_TOKEN") {
            Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
            _ if terms.terminal.can_ask() => secret::ask(terms, "Token: ").await?.unwrap_or_default(),
            _ => {
                return Err(Failure::Usage("a token is needed, and nobody can be asked: give --token-file".to_owned()));
            }
        },
    };
    if given.is_empty() {
        return Err(Failure::Usage("the token is empty; waifuctl token create on a node makes one".to_owned()));
    }
    Ok(given)
}

/// As `waifuctl cluster status` shows it.
fn fingerprint(certificate: &[u8]) -> String {
    CaFingerprint::of(Sha256::digest(certificate).into()).0
}

/// The digits alone, however they were grouped, and without the name of the sum that openssl puts before them.
fn hex(text: &str) -> String {
    let digits = text.rsplit_once('=').map_or(text, |(_, digits)| digits);
    let digits = digits.strip_prefix("SHA256:").unwrap_or(digits);
    digits.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}

fn pem(certificate: &[u8]) -> Vec<u8> {
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (n, c) in text.chars().enumerate() {
        // RFC 7468: 64 characters a line.
        if n > 0 && n % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    (pem + "\n-----END CERTIFICATE-----\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_compared_by_their_digits() {
        let shown = fingerprint(b"abc");
        assert!(shown.starts_with("BA:78:16:BF"), "{shown}");
        assert_eq!(hex(&format!("sha256 Fingerprint={shown}")), hex(&shown));
        assert_eq!(hex(&shown), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_context_is_named_by_its_host() {
        let name = |url: &str| named(&url.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(name("https://n1.lan:7443").unwrap(), "n1.lan");
        assert_eq!(name("https://[fd00::1]").unwrap(), "fd00--1");
        assert!(name("unix:/run/waifud/api.sock").is_err());
    }
}
