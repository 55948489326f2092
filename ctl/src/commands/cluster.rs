//! `cluster`: its status, and the tokens with which machines join. What its guests are told is `cloud_init.rs`.

use super::{cloud_init, token::would_revoke};
use crate::{
    complete,
    context::Context,
    exit::Failure,
    output::{Select, parse_span},
    typed::one_or_more,
    views::cluster::{MemberRow, status},
    wait,
};
use std::time::Duration;
use waifud_api::token::JoinTokenCreate;
use waifud_model::ids::TokenId;

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show how the cluster is
    #[command(before_help = "Examples:
  waifuctl cluster status
  waifuctl cluster status -o json")]
    Status,
    /// Tokens with which machines join
    #[command(subcommand)]
    Token(Token),
    /// What every guest is told beside its own: default user-data, and vendor-data
    #[command(subcommand)]
    CloudInit(cloud_init::Command),
}

/// The commands of `cluster token`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it; it is not shown again
    #[command(before_help = "Examples:
  waifuctl cluster token create | ssh n2 waifud join -
  waifuctl cluster token create --uses 5 --valid 1d")]
    Create {
        /// For how long it is valid
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_span)]
        valid: Duration,
        /// How many machines it lets in
        #[arg(long, value_name = "COUNT", default_value_t = JoinTokenCreate::default_uses(), value_parser = one_or_more)]
        uses: u32,
    },
    /// List the tokens
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl cluster token list")]
    List(Select),
    /// Machines may no longer join with this token
    #[command(before_help = "Examples:
  waifuctl cluster token revoke 0000000000000001
  waifuctl cluster token revoke 0000000000000001 --dry-run")]
    Revoke {
        /// The token's id
        #[arg(add = complete::join_tokens())]
        id: TokenId,
        /// Only say which it is
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => {
            let found = context.fresh(context.client.cluster().await?);
            let members: Vec<_> = found.members.iter().map(MemberRow).collect();
            context.out.page(&found, &members, |look| status(&found, look))
        }
        Command::CloudInit(command) => cloud_init::run(context, command).await,
        Command::Token(Token::Create { valid, uses }) => {
            let request = JoinTokenCreate { valid_seconds: valid.as_secs(), uses };
            let made = context.fresh(wait::accepted(context.client.create_join_token(&request)).await?);
            if context.terminal.out {
                context.hint("On the machine that shall join:  waifud join -   and paste this:");
            }
            context.out.word(&made, &made.token)
        }
        Command::Token(Token::List(select)) => {
            let tokens = context.fresh(context.client.join_tokens().await?);
            context.out.list(&select.keep(tokens)?)
        }
        Command::Token(Token::Revoke { id, dry_run: true }) => {
            let tokens = context.fresh(context.client.join_tokens().await?);
            would_revoke(context, tokens, id, "waifuctl cluster token list")
        }
        Command::Token(Token::Revoke { id, dry_run: false }) => {
            context.fresh(wait::accepted(context.client.revoke_join_token(id)).await?);
            context.progress.done(&format!("{id} is revoked"), "");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_interface_s() {
        assert_eq!(parse_span("1h").unwrap().as_secs(), JoinTokenCreate::default_seconds());
    }
}
