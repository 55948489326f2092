//! `template`: list, show, add, delete.

use crate::{
    complete, confirm,
    context::Context,
    exit::Failure,
    output::Select,
    views::template::{VersionRow, details},
    wait,
};
use std::path::PathBuf;
use waifud_api::{
    filter::{Filter, Term},
    template::{Template, TemplateAdd, TemplateSelector, TemplateVersion},
};
use waifud_model::{
    digest::{Blake3, Sha256},
    name::TemplateName,
};

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the templates
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl template list
  waifuctl template list -o wide")]
    List(Select),
    /// Show the versions of a template
    #[command(before_help = "Examples:
  waifuctl template show debian-12")]
    Show {
        /// The template
        #[arg(add = complete::templates())]
        name: TemplateName,
    },
    /// Add a version, from a file or a URL; the template comes to be with its first
    #[command(before_help = "Examples:
  waifuctl template add tiny --file tiny.qcow2
  waifuctl template add debian-12 --url https://…/debian-12-genericcloud-amd64.qcow2 --sha256 …")]
    Add(Add),
    /// Delete a template, or one of its versions (NAME@VERSION)
    #[command(visible_alias = "rm")]
    #[command(before_help = "Examples:
  waifuctl template delete debian-12@9f3c21
  waifuctl template delete debian-12 --dry-run")]
    Delete {
        /// The template, or one of its versions
        #[arg(value_name = "NAME[@VERSION]", add = complete::templates())]
        template: TemplateSelector,
        /// Only say what would be deleted, or which VMs stand in the way
        #[arg(long)]
        dry_run: bool,
    },
}

/// The arguments of `template add`.
#[derive(Debug, clap::Args)]
// The derived group would hold every argument; only these two exclude each other.
#[group(skip)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["file", "url"]))]
pub(crate) struct Add {
    /// The template
    name: TemplateName,
    /// An image on this machine, qcow2 or raw
    #[arg(long)]
    file: Option<PathBuf>,
    /// An image on the web, qcow2 or raw; a node downloads it
    #[arg(long, requires = "sha256")]
    url: Option<String>,
    /// What its bytes must be; needed with --url
    #[arg(long, value_name = "HEX")]
    sha256: Option<Sha256>,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(select) => list(context, &select).await,
        Command::Show { name } => {
            let template = context.fresh(context.client.template(&name).await?);
            let rows: Vec<_> = template.versions.into_iter().map(VersionRow).collect();
            context.out.list(&rows)
        }
        Command::Add(add) => add_version(context, add).await,
        Command::Delete { template, dry_run } => delete(context, &template, dry_run).await,
    }
}

async fn list(context: &Context, select: &Select) -> Result<(), Failure> {
    let templates: Vec<Template> = context.fresh(context.client.templates().await?);
    if templates.is_empty() && context.terminal.out {
        context.hint("There are no templates yet: waifuctl template add NAME --file IMAGE");
    }
    context.out.list(&select.keep(templates)?)
}

async fn add_version(context: &Context, add: Add) -> Result<(), Failure> {
    let (answer, phase) = match (add.file, add.url, add.sha256) {
        (Some(file), _, sha256) => {
            let phase = context.progress.transfer(&format!("sending {}", file.display()));
            let upload = context.client.upload_template(&add.name, sha256, &file, phase.meter());
            (wait::accepted(upload).await?, phase)
        }
        (None, Some(url), Some(sha256)) => {
            let phase = context.progress.phase(&format!("a node downloads {url}"));
            let request = TemplateAdd { url, sha256 };
            (wait::accepted(context.client.download_template(&add.name, &request)).await?, phase)
        }
        _ => return Err(Failure::Usage("give --file, or --url with --sha256".to_owned())),
    };
    let version: TemplateVersion = context.fresh(answer);
    phase.done(
        &format!("template {}", version.template),
        &format!("version {}, {}", version.version.short(), version.size),
    );
    if context.out.is_for_programs() {
        let row = VersionRow(version);
        return context.out.one(&row, |look| details(&row.0, look));
    }
    Ok(())
}

async fn delete(context: &Context, template: &TemplateSelector, dry_run: bool) -> Result<(), Failure> {
    let what = match &template.version {
        Some(_) => format!("version {template}"),
        None => format!("template {template} with all its versions"),
    };
    // What would be refused is told before anything is asked.
    let refused = context.client.preview_delete_template(template).await.err();
    if dry_run {
        let found = context.fresh(context.client.template(&template.name).await?);
        let meant = |version: &TemplateVersion| means(template, version.version);
        let rows: Vec<_> = found.versions.into_iter().filter(meant).map(VersionRow).collect();
        context.out.list(&rows)?;
    }
    if let Some(error) = refused {
        stand_in_the_way(context, template).await?;
        return Err(error.into());
    }
    if dry_run {
        context.hint(&format!("would delete {what}"));
        return Ok(());
    }
    confirm::agree(context, &format!("Delete {what}? This cannot be undone.")).await?;
    context.fresh(wait::accepted(context.client.delete_template(template)).await?);
    context.progress.done(&format!("{template} is deleted"), "");
    Ok(())
}

/// Is this version among what is named?
fn means(template: &TemplateSelector, version: Blake3) -> bool {
    template.version.as_ref().is_none_or(|prefix| prefix.matches(version))
}

/// Names the VMs for whose sake a template cannot go, if there are any.
async fn stand_in_the_way(context: &Context, template: &TemplateSelector) -> Result<(), Failure> {
    let filter = Filter::default().and(Term::Template(template.name.clone()));
    let mut vms = context.fresh(context.client.vms(&filter).await?);
    vms.retain(|vm| means(template, vm.template.version));
    let names: Vec<_> = vms.iter().map(|vm| vm.name.to_string()).collect();
    if !names.is_empty() {
        context.hint(&format!("these stand on {template}: {}", names.join(", ")));
    }
    Ok(())
}
