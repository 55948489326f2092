//! `token`: tokens for the API.

use crate::{
    complete,
    context::Context,
    exit::Failure,
    output::{Row, Select, parse_span},
    wait,
};
use std::{collections::BTreeMap, time::Duration};
use waifud_api::{exit::Exit, token::ApiTokenCreate};
use waifud_model::{
    ids::TokenId,
    labels::{Label, Labels},
    token::Role,
};

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it; it is not shown again
    #[command(before_help = "Examples:
  waifuctl token create --role operator --for laptop > ~/.waifu-token
  WAIFU_TOKEN_FILE=~/.waifu-token waifuctl -H https://n1:7443 ls
  waifuctl token create --role operator --scope team=web --for web-team")]
    Create {
        /// What it allows
        #[arg(long, value_enum)]
        role: RoleArg,
        /// What it is for, in your words
        #[arg(long = "for", value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        /// For how long it is valid [default: until it is revoked]
        #[arg(long, alias = "expires", value_name = "TIME", value_parser = parse_span)]
        valid: Option<Duration>,
        /// Only for VMs with this label, and for nothing else; of several labels a VM must have all. New VMs need
        /// `--label` with the same [default: all VMs]
        #[arg(long, value_name = "KEY=VALUE")]
        scope: Vec<Label>,
    },
    /// List the tokens
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl token list
  waifuctl token list role=admin")]
    List(Select),
    /// The token is worth nothing from now on, everywhere
    #[command(aliases = ["delete", "remove", "rm"])]
    #[command(before_help = "Examples:
  waifuctl token revoke 0000000000000001
  waifuctl token revoke 0000000000000001 --dry-run")]
    Revoke {
        /// The token's id
        #[arg(add = complete::tokens())]
        id: TokenId,
        /// Only say which it is
        #[arg(long)]
        dry_run: bool,
    },
}

/// The words of `--role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Look
    Viewer,
    /// Look, and change VMs and templates
    Operator,
    /// Everything, nodes and tokens too
    Admin,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { role, description, valid, scope } => {
            let role = match role {
                RoleArg::Viewer => Role::Viewer,
                RoleArg::Operator => Role::Operator,
                RoleArg::Admin => Role::Admin,
            };
            let valid_seconds = valid.map(|valid| valid.as_secs());
            let request = ApiTokenCreate { role, description, valid_seconds, scope: labels(scope)? };
            let made = context.fresh(wait::accepted(context.client.create_api_token(&request)).await?);
            context.out.word(&made, &made.token)?;
            if context.terminal.out && !context.out.has_format() {
                context.hint("it is not shown again; waifuctl login asks for it:  waifuctl login https://NODE:7443");
            }
            Ok(())
        }
        Command::List(select) => {
            let tokens = context.fresh(context.client.api_tokens().await?);
            context.out.list(&select.keep(tokens)?)
        }
        Command::Revoke { id, dry_run: true } => {
            let tokens = context.fresh(context.client.api_tokens().await?);
            would_revoke(context, tokens, id, "waifuctl token list")
        }
        Command::Revoke { id, dry_run: false } => {
            context.fresh(wait::accepted(context.client.revoke_api_token(id)).await?);
            context.progress.done(&format!("{id} is revoked"), "");
            Ok(())
        }
    }
}

/// Shows which token would go; `list` is the command that shows all.
pub(super) fn would_revoke<T: Row>(
    context: &Context,
    mut tokens: Vec<T>,
    id: TokenId,
    list: &str,
) -> Result<(), Failure> {
    tokens.retain(|token| token.name() == id.to_string());
    if tokens.is_empty() {
        return Err(Failure::ended(Exit::NotFound, format!("there is no token {id}"), list));
    }
    context.hint("would revoke this token");
    context.out.list(&tokens)
}

/// What a token is for. Of two values for one key no VM has both, and to take either would be a guess about who may do what.
fn labels(scope: Vec<Label>) -> Result<Option<Labels>, Failure> {
    let mut labels = BTreeMap::new();
    for Label { key, value } in scope {
        if let Some(other) = labels.insert(key.clone(), value.clone()).filter(|other| *other != value) {
            let why = format!("--scope: {key} is given twice, as {other} and as {value}, and no VM has both");
            return Err(Failure::Usage(why));
        }
    }
    let labels = Labels::try_from(labels).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(Some(labels).filter(|labels| !labels.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_all_that_is_given_or_nothing() {
        let scope = |given: &[&str]| labels(given.iter().map(|label| label.parse().unwrap()).collect());
        assert_eq!(scope(&[]).unwrap(), None);
        let both = scope(&["team=web", "env=prod", "team=web"]).unwrap().unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [("env", "prod"), ("team", "web")]);
        let refused = scope(&["team=web", "team=db"]).unwrap_err().to_string();
        assert!(refused.contains("team is given twice, as web and as db"), "{refused}");
    }
}
