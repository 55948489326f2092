//! `edit`: what one VM's guest is told, in an editor or from files.

use crate::{
    complete, confirm,
    context::Context,
    documents::{DatasourceArg, ImdsArg, Sources, is_stdin, ssh_keys},
    edit::{self, Target},
    exit::Failure,
    wait,
};
use std::path::{Path, PathBuf};
use waifud_api::{
    client::IdempotencyKey,
    cloud_init::{CloudInit, CloudInitQuery, CloudInitSaved},
    problem::ProblemCode,
    user_data::UserDataIn,
};
use waifud_model::{ids::Generation, name::VmName};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl edit web-1
  waifuctl edit web-1 --file cloud-config.yaml --rerun
  waifuctl edit web-1 --ssh-key ~/.ssh/id_ed25519.pub --imds v2 --rerun
  waifuctl edit web-1 --file cloud-config.yaml --dry-run")]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// A file with the new user-data, taken byte for byte; - is stdin. Without it, and without any of the other documents
    /// below, $VISUAL or $EDITOR is opened on the present one. An empty file takes it away
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A new instance-id: at the next boot cloud-init runs everything again, as on the first
    #[arg(long, conflicts_with = "keep")]
    rerun: bool,
    /// The same instance-id: cloud-init keeps what it did, and only what it looks at on every boot takes effect
    #[arg(long)]
    keep: bool,
    /// A file with the new network-config; an empty one takes it away
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
    /// A file with OpenSSH public keys, in place of those there are; may be given several times
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// As which cloud the guest is to know its host
    #[arg(long, value_enum)]
    datasource: Option<DatasourceArg>,
    /// To which requests EC2's documents are given
    #[arg(long, value_enum)]
    imds: Option<ImdsArg>,
    /// Only have it checked
    #[arg(long)]
    dry_run: bool,
}

/// What becomes of what cloud-init has done already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Keep,
    Rerun,
}

/// A VM's documents, of which the user-data is edited.
#[derive(Debug)]
struct OfVm {
    name: VmName,
    life: Option<Life>,
    dry_run: bool,
}

/// What is to be changed without an editor.
#[derive(Debug, Default)]
struct Changes {
    user_data: Option<Option<UserDataIn>>,
    network_config: Option<Option<UserDataIn>>,
    ssh_keys: Option<Vec<String>>,
    datasource: Option<DatasourceArg>,
    imds: Option<ImdsArg>,
}

/// None for an empty document.
pub(super) fn filled(document: UserDataIn) -> Option<UserDataIn> {
    (!document.0.as_bytes().is_empty()).then_some(document)
}

impl Changes {
    fn read(args: &Args) -> Result<(Self, Sources), Failure> {
        let mut sources = Sources::default();
        let mut document =
            |field, path: &Option<PathBuf>| path.as_ref().map(|path| sources.read(field, path).map(filled)).transpose();
        let changes = Self {
            user_data: document("user_data", &args.file)?,
            network_config: document("network_config", &args.network_config)?,
            ssh_keys: if args.ssh_key.is_empty() { None } else { Some(ssh_keys(&args.ssh_key)?) },
            datasource: args.datasource,
            imds: args.imds,
        };
        Ok((changes, sources))
    }

    fn make(&self, documents: &mut CloudInit) {
        if let Some(user_data) = &self.user_data {
            documents.user_data.clone_from(user_data);
        }
        if let Some(network_config) = &self.network_config {
            documents.network_config.clone_from(network_config);
        }
        if let Some(keys) = &self.ssh_keys {
            documents.ssh_keys.clone_from(keys);
        }
        if let Some(datasource) = self.datasource {
            documents.datasource = datasource.into();
        }
        if let Some(imds) = self.imds {
            documents.imds = imds.into();
        }
    }
}

impl Args {
    /// Is there something to be changed without an editor?
    fn says_what(&self) -> bool {
        self.file.is_some()
            || self.network_config.is_some()
            || !self.ssh_key.is_empty()
            || self.datasource.is_some()
            || self.imds.is_some()
    }

    const fn life(&self) -> Option<Life> {
        match (self.keep, self.rerun) {
            (_, true) => Some(Life::Rerun),
            (true, false) => Some(Life::Keep),
            (false, false) => None,
        }
    }
}

impl Target for OfVm {
    type Documents = CloudInit;

    fn what(&self) -> String {
        format!("user-data of {}", self.name)
    }

    fn stem(&self) -> String {
        self.name.to_string()
    }

    fn text<'a>(&self, documents: &'a CloudInit) -> Option<&'a UserDataIn> {
        documents.user_data.as_ref()
    }

    fn set_text(&self, documents: &mut CloudInit, text: Option<UserDataIn>) {
        documents.user_data = text;
    }

    async fn decide(&mut self, context: &Context, documents: &CloudInit, expect: Generation) -> Result<(), Failure> {
        if self.life.is_none() && !self.dry_run {
            let trial = CloudInitQuery { rerun: false, dry_run: true };
            let key = IdempotencyKey::random();
            let tried = context.client.set_cloud_init(&self.name, documents, trial, expect, &key).await;
            match tried.map_err(Failure::from) {
                // What was changed in between is met when it is saved.
                Err(failure) if !edit::is(&failure, ProblemCode::Stale) => return Err(failure),
                _ => self.life = Some(ask_life().await?),
            }
        }
        Ok(())
    }

    async fn read(&self, context: &Context) -> Result<(CloudInit, Generation), Failure> {
        Ok(context.fresh(context.client.cloud_init(&self.name).await?))
    }

    async fn save(
        &self,
        context: &Context,
        documents: &CloudInit,
        expect: Generation,
    ) -> Result<CloudInitSaved, Failure> {
        let query = CloudInitQuery { rerun: self.life == Some(Life::Rerun), dry_run: self.dry_run };
        let key = IdempotencyKey::random();
        let change = context.client.set_cloud_init(&self.name, documents, query, expect, &key);
        Ok(context.fresh(wait::accepted(change).await?))
    }

    fn again(&self, path: &Path) -> String {
        let life = match self.life {
            Some(Life::Keep) => " --keep",
            Some(Life::Rerun) => " --rerun",
            None => "",
        };
        format!("waifuctl edit {} --file {}{life}", self.name, path.display())
    }
}

async fn ask_life() -> Result<Life, Failure> {
    let explained = "keep   cloud-init keeps what it did; only what it looks at on every boot takes effect
rerun  a new instance-id: at the next boot everything runs again, as on the first
Keep or rerun? ";
    let mut question = explained;
    loop {
        match confirm::ask(question).await?.as_deref() {
            Some("k" | "keep") => return Ok(Life::Keep),
            Some("r" | "rerun") => return Ok(Life::Rerun),
            Some(_) => question = "Type keep or rerun: ",
            None => return Err(Failure::Usage("nobody chose between --keep and --rerun".to_owned())),
        }
    }
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let by_hand = !args.says_what();
    if !context.terminal.can_ask() {
        if by_hand {
            return Err(Failure::Usage("there is no terminal for an editor: give --file".to_owned()));
        }
        if args.life().is_none() && !args.dry_run {
            let message = "say what becomes of what cloud-init did already: --keep it, or --rerun everything";
            return Err(Failure::Usage(message.to_owned()));
        }
    }
    let mut target = OfVm { name: args.name.clone(), life: args.life(), dry_run: args.dry_run };
    let mut sources = Sources::default();
    let end = if by_hand {
        edit::by_hand(context, &mut target).await
    } else {
        let (changes, read) = Changes::read(args)?;
        sources = read;
        // Running everything again is a change of its own.
        let always = args.rerun || args.dry_run;
        let end = edit::at_once(context, &mut target, |documents| changes.make(documents), always).await;
        end.map_err(|failure| piped(&target, args, &changes, sources.blame(failure)))
    };
    let Some(saved) = end? else {
        context.hint(&format!("nothing is changed in the cloud-config of {}", args.name));
        return Ok(());
    };
    sources.warn(&context.progress, &saved.warnings);
    tell(context, &target, &saved);
    if context.out.has_format() { context.out.whole(&saved, |_| String::new()) } else { Ok(()) }
}

/// What came through a pipe is nowhere else.
fn piped(target: &OfVm, args: &Args, changes: &Changes, failure: Failure) -> Failure {
    match (&args.file, &changes.user_data) {
        (Some(path), Some(Some(text))) if is_stdin(path) => edit::keep(target, text, failure),
        _ => failure,
    }
}

/// Says what was done, and when it takes effect.
fn tell(context: &Context, target: &OfVm, saved: &CloudInitSaved) {
    let name = &target.name;
    if target.dry_run {
        context.progress.done(&format!("the cloud-config of {name} could be taken"), "nothing is changed");
        return;
    }
    context.progress.done(&format!("the cloud-config of {name} is saved"), &format!("generation {}", saved.generation));
    let what = if target.life == Some(Life::Rerun) {
        let id = saved.instance_id.as_deref().map(|id| format!(" (instance-id {id})")).unwrap_or_default();
        format!("everything runs again at the next boot{id}")
    } else {
        "what cloud-init looks at on every boot takes effect at the next".to_owned()
    };
    context.hint(&format!("{what}:  waifuctl reboot {name}"));
    context.hint(&format!("on a new root disk, all that was on it lost:  waifuctl reinit {name}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Only::try_parse_from(line.split(' ')).unwrap().args
    }

    #[test]
    fn only_what_is_said_is_changed() {
        let before = CloudInit {
            user_data: Some(UserDataIn::new(b"#cloud-config\n".to_vec()).unwrap()),
            ssh_keys: vec!["ssh-ed25519 AAAA me".to_owned()],
            ..CloudInit::default()
        };
        let mut after = before.clone();
        Changes::read(&args("edit web-1 --imds v2 --datasource openstack")).unwrap().0.make(&mut after);
        assert_eq!((after.imds.as_str(), after.datasource.as_str()), ("v2", "open_stack"));
        assert_eq!((&after.user_data, &after.ssh_keys), (&before.user_data, &before.ssh_keys));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let line = format!("edit web-1 --file {}", empty.path().display());
        Changes::read(&args(&line)).unwrap().0.make(&mut after);
        assert_eq!(after.user_data, None);
    }

    #[test]
    fn an_editor_opens_where_nothing_else_is_said() {
        assert!(!args("edit web-1").says_what() && !args("edit web-1 --rerun --dry-run").says_what());
        assert!(args("edit web-1 --imds v2").says_what());
        assert!(Only::try_parse_from(["edit", "web-1", "--keep", "--rerun"]).is_err());
    }
}
