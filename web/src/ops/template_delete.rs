//! Away with a template, or with one of its versions. The nodes drop the bytes when they see it in the log.

use super::propose::{Author, Done};
use crate::{app::App, conditional::IfRevision, problem::Failure, view};
use waifud_api::template::{TemplateSelector, VersionPrefix};
use waifud_model::{command::Command, digest::Blake3, name::TemplateName};

/// Deletes `template`, or only the version that `version` stands for.
pub(crate) async fn run(
    app: &App,
    author: &Author,
    template: TemplateName,
    version: Option<VersionPrefix>,
    expect: IfRevision,
) -> Result<Done<()>, Failure> {
    let selector = TemplateSelector { name: template.clone(), version };
    let committed = match meant(app, selector, expect).await {
        Ok(version) => author.propose(&app.consensus, Command::DeleteTemplate { template, version }).await?,
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

/// Only says whether [`run`] would.
pub(crate) async fn preview(
    app: &App,
    template: TemplateName,
    version: Option<VersionPrefix>,
    expect: IfRevision,
) -> Result<(), Failure> {
    let selector = TemplateSelector { name: template.clone(), version };
    let version = meant(app, selector, expect).await?;
    app.consensus.read(move |view| view.try_delete_template(&template, version)).await?.map_err(Failure::rejected)
}

/// The version that is meant, if it is one and not all of them, and if the template is the one that was seen.
async fn meant(app: &App, selector: TemplateSelector, expect: IfRevision) -> Result<Option<Blake3>, Failure> {
    expect.settle(&app.consensus).await?;
    let one = selector.version.is_some();
    let read = app.consensus.read(move |view| {
        let found = view::resolve_template(view, &selector)?;
        Ok((found, view.template_versions(&selector.name)?))
    });
    let (found, versions) = read.await?;
    let found = found?;
    expect.check(&view::template_revision(&versions)?)?;
    Ok(one.then_some(found.version))
}
