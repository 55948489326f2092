//! `config`: what options are where they are not given.

use crate::{
    context::Terms,
    exit::Failure,
    output::{self, Cell, Column, Look, Row},
    settings::Key,
};
use serde::Serialize;
use waifud_api::exit::Exit;

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print what an option is by default
    #[command(before_help = "Examples:
  waifuctl config get timeout")]
    Get {
        /// The option
        #[arg(value_enum)]
        key: Key,
    },
    /// Say what an option is by default
    #[command(before_help = "Examples:
  waifuctl config set output wide
  waifuctl config set timeout 10m
  waifuctl config set user debian")]
    Set {
        /// The option
        #[arg(value_enum)]
        key: Key,
        /// Its value
        value: String,
    },
    /// Let an option be as it was made again
    #[command(before_help = "Examples:
  waifuctl config unset output")]
    Unset {
        /// The option
        #[arg(value_enum)]
        key: Key,
    },
    /// List all that is set
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl config list")]
    List,
}

/// A setting as a row.
#[derive(Debug, Serialize)]
struct Setting<'a> {
    key: &'static str,
    value: &'a str,
}

impl Row for Setting<'_> {
    const COLUMNS: &'static [Column] = &[Column::text("KEY"), Column::text("VALUE")];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        vec![self.key.into(), self.value.into()]
    }

    fn name(&self) -> String {
        self.key.to_owned()
    }
}

pub(crate) fn run(terms: &Terms, command: Command) -> Result<(), Failure> {
    let mut settings = terms.settings.clone();
    match command {
        Command::Get { key } => match settings.defaults.get(key) {
            Some(value) => output::stdout(&format!("{value}\n")),
            None => {
                let word = key.word();
                let set = format!("waifuctl config set {word} VALUE");
                Err(Failure::ended(Exit::NotFound, format!("{word} is not set"), set))
            }
        },
        Command::Set { key, value } => {
            settings.defaults.set(key, Some(value))?;
            settings.save()
        }
        Command::Unset { key } => {
            settings.defaults.set(key, None)?;
            settings.save()
        }
        Command::List => {
            let rows: Vec<_> = Key::ALL
                .into_iter()
                .filter_map(|key| settings.defaults.get(key).map(|value| Setting { key: key.word(), value }))
                .collect();
            terms.out.list(&rows)
        }
    }
}
