//! `cluster cloud-init`: what every guest of the cluster is told beside its own.

use super::edit::filled;
use crate::{
    context::Context,
    documents::{Sources, is_stdin},
    edit::{self, Target},
    exit::Failure,
    output, wait,
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};
use waifud_api::{
    client::IdempotencyKey,
    cloud_init::{CloudDefaults, CloudInitSaved},
    user_data::UserDataIn,
};
use waifud_model::ids::Generation;

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the documents
    #[command(before_help = "Examples:
  waifuctl cluster cloud-init show
  waifuctl cluster cloud-init show vendor-data")]
    Show {
        /// Only this one, byte for byte
        #[arg(value_enum)]
        document: Option<Document>,
    },
    /// Change the documents, in $VISUAL or $EDITOR or from files
    #[command(before_help = "Examples:
  waifuctl cluster cloud-init edit
  waifuctl cluster cloud-init edit vendor-data
  waifuctl cluster cloud-init edit --user-data house-rules.yaml")]
    Edit(Edit),
}

/// The arguments of `cluster cloud-init edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Edit {
    /// Which one the editor is opened on
    #[arg(value_enum, default_value_t, conflicts_with_all = ["user_data", "vendor_data"])]
    document: Document,
    /// A file with the user-data that each VM's own is merged over; - is stdin. An empty file takes it away
    #[arg(short, long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// A file with the vendor-data, which a VM's user may refuse; - is stdin. An empty file takes it away
    #[arg(long, value_name = "FILE")]
    vendor_data: Option<PathBuf>,
}

/// One of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Document {
    /// What each VM's own user-data is merged over
    #[default]
    UserData,
    /// What a VM's user may refuse
    VendorData,
}

impl Document {
    const fn word(self) -> &'static str {
        match self {
            Self::UserData => "user-data",
            Self::VendorData => "vendor-data",
        }
    }

    const fn of(self, documents: &CloudDefaults) -> Option<&UserDataIn> {
        match self {
            Self::UserData => documents.user_data.as_ref(),
            Self::VendorData => documents.vendor_data.as_ref(),
        }
    }
}

/// The cluster's documents, of which one is edited.
#[derive(Debug)]
struct OfCluster {
    document: Document,
}

impl Target for OfCluster {
    type Documents = CloudDefaults;

    fn what(&self) -> String {
        format!("{} of the cluster", self.document.word())
    }

    fn stem(&self) -> String {
        self.document.word().to_owned()
    }

    fn text<'a>(&self, documents: &'a CloudDefaults) -> Option<&'a UserDataIn> {
        self.document.of(documents)
    }

    fn set_text(&self, documents: &mut CloudDefaults, text: Option<UserDataIn>) {
        match self.document {
            Document::UserData => documents.user_data = text,
            Document::VendorData => documents.vendor_data = text,
        }
    }

    async fn decide(&mut self, _: &Context, _: &CloudDefaults, _: Generation) -> Result<(), Failure> {
        Ok(())
    }

    async fn read(&self, context: &Context) -> Result<(CloudDefaults, Generation), Failure> {
        Ok(context.fresh(context.client.cloud_defaults().await?))
    }

    async fn save(
        &self,
        context: &Context,
        documents: &CloudDefaults,
        expect: Generation,
    ) -> Result<CloudInitSaved, Failure> {
        let key = IdempotencyKey::random();
        let change = context.client.set_cloud_defaults(documents, expect, &key);
        Ok(context.fresh(wait::accepted(change).await?))
    }

    fn again(&self, path: &Path) -> String {
        format!("waifuctl cluster cloud-init edit --{} {}", self.document.word(), path.display())
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { document } => show(context, document).await,
        Command::Edit(args) => change(context, &args).await,
    }
}

async fn show(context: &Context, document: Option<Document>) -> Result<(), Failure> {
    let (documents, _) = context.fresh(context.client.cloud_defaults().await?);
    match document {
        Some(document) => output::bytes(document.of(&documents).map(|data| data.0.as_bytes()).unwrap_or_default()),
        None => context.out.whole(&documents, |_| page(&documents)),
    }
}

/// Both documents under each other.
fn page(documents: &CloudDefaults) -> String {
    let mut page = String::new();
    for document in [Document::UserData, Document::VendorData] {
        let gap = if page.is_empty() { "" } else { "\n" };
        let text = match document.of(documents).map(|data| data.0.as_bytes()) {
            None => "(none)\n".to_owned(),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.split_inclusive('\n').map(|line| output::printable(line.trim_end()) + "\n").collect(),
                Err(_) => format!("({} bytes that are no text)\n", bytes.len()),
            },
        };
        let _ = write!(page, "{gap}{}:\n{text}", document.word());
    }
    page
}

async fn change(context: &Context, args: &Edit) -> Result<(), Failure> {
    let mut target = OfCluster { document: args.document };
    let mut sources = Sources::default();
    let end = if args.user_data.is_none() && args.vendor_data.is_none() {
        if !context.terminal.can_ask() {
            let message = "there is no terminal for an editor: give --user-data or --vendor-data";
            return Err(Failure::Usage(message.to_owned()));
        }
        edit::by_hand(context, &mut target).await
    } else {
        let mut document =
            |field, path: &Option<PathBuf>| path.as_ref().map(|path| sources.read(field, path).map(filled)).transpose();
        let user_data = document("user_data", &args.user_data)?;
        let vendor_data = document("vendor_data", &args.vendor_data)?;
        let make = |documents: &mut CloudDefaults| {
            if let Some(user_data) = &user_data {
                documents.user_data.clone_from(user_data);
            }
            if let Some(vendor_data) = &vendor_data {
                documents.vendor_data.clone_from(vendor_data);
            }
        };
        let end = edit::at_once(context, &mut target, make, false).await;
        end.map_err(|failure| piped(&mut target, args, [user_data, vendor_data], sources.blame(failure)))
    };
    let Some(saved) = end? else {
        context.hint("nothing is changed in the cloud-config of the cluster");
        return Ok(());
    };
    sources.warn(&context.progress, &saved.warnings);
    let generation = format!("generation {}", saved.generation);
    context.progress.done("the cloud-config of the cluster is saved", &generation);
    context.hint(
        "new VMs get all of it; others what cloud-init looks at on every boot, or with waifuctl edit NAME --rerun",
    );
    if context.out.has_format() { context.out.whole(&saved, |_| String::new()) } else { Ok(()) }
}

/// What came through a pipe is nowhere else.
fn piped(target: &mut OfCluster, args: &Edit, texts: [Option<Option<UserDataIn>>; 2], failure: Failure) -> Failure {
    let paths = [(Document::UserData, &args.user_data), (Document::VendorData, &args.vendor_data)];
    for ((document, path), text) in paths.into_iter().zip(texts) {
        if let (Some(path), Some(Some(text))) = (path, text)
            && is_stdin(path)
        {
            target.document = document;
            return edit::keep(target, &text, failure);
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_page_shows_what_is_there_and_what_is_not() {
        let text = |bytes: &[u8]| Some(UserDataIn::new(bytes.to_vec()).unwrap());
        let documents = CloudDefaults { user_data: text(b"#cloud-config\n\tpackages: [vim]\n"), vendor_data: None };
        expect![[r#"
            user-data:
            #cloud-config
             packages: [vim]

            vendor-data:
            (none)
        "#]]
        .assert_eq(&page(&documents));
        let compressed = CloudDefaults { user_data: None, vendor_data: text(&[0x1f, 0x8b, 0xff]) };
        assert!(page(&compressed).ends_with("(3 bytes that are no text)\n"));
    }
}
