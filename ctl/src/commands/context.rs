//! `context`: the clusters that this user works with. Nothing here asks a cluster; `login` does that.

use crate::{
    context::Terms,
    endpoint,
    exit::Failure,
    output::{Cell, Column, Look, Row},
    settings::{ContextName, Host, Place, Settings},
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use waifud_api::{client::Endpoint, exit::Exit};

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Note a cluster; waifuctl login does the same and checks that it is there
    #[command(before_help = "Examples:
  waifuctl context add home --at https://n1:7443,https://n2:7443 --token-file t --ca-file ca.pem
  waifuctl context add here --at unix:/run/waifud/api.sock")]
    Add(Add),
    /// Use this context from now on
    #[command(before_help = "Examples:
  waifuctl context use home")]
    Use {
        /// The context
        #[arg(add = crate::complete::contexts())]
        name: ContextName,
    },
    /// List the contexts
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl context list
  waifuctl context list -o json")]
    List,
    /// Forget a context, its token and its CA
    #[command(visible_alias = "rm")]
    #[command(before_help = "Examples:
  waifuctl context remove home
  waifuctl context remove home --dry-run")]
    Remove {
        /// The context
        #[arg(add = crate::complete::contexts())]
        name: ContextName,
        /// Only say what would be forgotten, and which files would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// The arguments of `context add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// What to call it
    name: ContextName,
    /// Where its nodes' APIs are; of several, the first that answers is used
    #[arg(long, value_name = "URL[,URL…]")]
    at: String,
    /// The machine that ssh goes through where guests are not routed
    #[arg(long, value_name = "[USER@]HOST[:PORT]")]
    jump: Option<String>,
}

/// A context as a row. Files are named; what is in them is nobody's business.
#[derive(Debug, Serialize)]
struct ContextRow<'a> {
    name: &'a ContextName,
    current: bool,
    #[serde(flatten)]
    place: &'a Place,
}

impl Row for ContextRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::text("NAME"),
        Column::text("CURRENT"),
        Column::text("HOSTS"),
        Column::wide("TOKEN"),
        Column::wide("CA"),
        Column::wide("JUMP"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let file = |path: &Option<PathBuf>| path.as_ref().map_or("-".into(), |path| path.display().to_string().into());
        vec![
            self.name.to_string().into(),
            if self.current { "yes" } else { "no" }.into(),
            look.words(self.place.hosts.iter().map(|host| &host.0)).into(),
            file(&self.place.token_file),
            file(&self.place.ca_file),
            self.place.jump.as_deref().unwrap_or("-").into(),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

pub(crate) fn run(terms: &Terms, command: Command, files: Files) -> Result<(), Failure> {
    let mut settings = terms.settings.clone();
    match command {
        Command::Add(add) => {
            let hosts = Endpoint::parse_list(&add.at).map_err(|e| Failure::Usage(e.to_string()))?;
            let place = Place { jump: add.jump, ..files.place(hosts)? };
            put(&mut settings, &add.name, place)?;
            terms.progress.done(&format!("context {} is noted", add.name), &in_use(&settings));
        }
        Command::Use { name } => {
            settings.place(&name)?;
            settings.current = Some(name);
            settings.save()?;
            terms.progress.done(&in_use(&settings), "");
        }
        Command::List => {
            let rows: Vec<_> = settings.contexts.iter().map(|(name, place)| row(&settings, name, place)).collect();
            if rows.is_empty() && terms.terminal.out {
                terms.hint("There are no contexts yet: waifuctl login https://NODE:7443");
            }
            return terms.out.list(&rows);
        }
        Command::Remove { name, dry_run } => {
            let place = settings.place(&name)?.clone();
            // Only what `login` put there: other files are the user's own.
            let files = [&place.token_file, &place.ca_file].into_iter().flatten().filter(|file| is_ours(file));
            if dry_run {
                terms.hint(&format!("would forget the context {name}"));
                files.for_each(|file| terms.hint(&format!("would remove {}", file.display())));
                return terms.out.list(&[row(&settings, &name, &place)]);
            }
            settings.contexts.remove(&name);
            settings.current.take_if(|current| *current == name);
            settings.save()?;
            for file in files {
                std::fs::remove_file(file)
                    .map_err(|source| Failure::File { path: file.display().to_string(), source })?;
            }
            terms.progress.done(&format!("context {name} is forgotten"), &in_use(&settings));
        }
    }
    Ok(())
}

fn row<'a>(settings: &Settings, name: &'a ContextName, place: &'a Place) -> ContextRow<'a> {
    ContextRow { name, current: settings.current.as_ref() == Some(name), place }
}

fn is_ours(file: &Path) -> bool {
    file.parent().map(Path::to_owned) == crate::settings::config_dir()
}

/// Which context counts now.
pub(super) fn in_use(settings: &Settings) -> String {
    match &settings.current {
        Some(name) => format!("{name} is used from now on"),
        None => "no context is in use: the local socket is asked".to_owned(),
    }
}

/// Notes a context under a name that is free. The first one is used at once.
pub(super) fn put(settings: &mut Settings, name: &ContextName, place: Place) -> Result<(), Failure> {
    if settings.contexts.contains_key(name) {
        let message = format!("there is a context {name} already");
        return Err(Failure::ended(Exit::Conflict, message, format!("waifuctl context remove {name}")));
    }
    settings.contexts.insert(name.clone(), place);
    settings.current.get_or_insert_with(|| name.clone());
    settings.save()
}

/// The files that were named by the global options.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    pub(crate) token: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
}

impl Files {
    /// A context with these files, which must be there. Their paths are made absolute: contexts are used from anywhere.
    fn place(self, hosts: Vec<Endpoint>) -> Result<Place, Failure> {
        let there = |path: Option<PathBuf>| {
            path.map(|path| {
                endpoint::read(&path)?;
                std::path::absolute(&path).map_err(|source| Failure::File { path: path.display().to_string(), source })
            })
            .transpose()
        };
        Ok(Place {
            hosts: hosts.into_iter().map(Host).collect(),
            token_file: there(self.token)?,
            ca_file: there(self.ca)?,
            jump: None,
        })
    }
}
