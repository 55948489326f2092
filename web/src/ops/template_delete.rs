//! Away with a template, or with one of its versions. The nodes drop the bytes when they see it in the log.

use super::propose::{Author, Done};
use crate::{app::App, conditional::IfRevision, problem::Failure, view};
use waifud_api::template::{TemplateSelector, VersionPrefix};
use waifud_model::{command::Command, name::TemplateName};

/// Deletes `template`, or only the version that `version` stands for.
pub(crate) async fn run(
    app: &App,
    author: &Author,
    template: TemplateName,
    version: Option<VersionPrefix>,
    expect: IfRevision,
) -> Result<Done<()>, Failure> {
    let selector = TemplateSelector { name: template.clone(), version };
    let whole = selector.version.is_none();
    expect.settle(&app.consensus).await?;
    let read = app.consensus.read(move |view| {
        let found = view::resolve_template(view, &selector)?;
        Ok((found, view.template_versions(&selector.name)?))
    });
    let (found, versions) = read.await?;
    let revision = view::template_revision(&versions)?;
    let committed = match found.and_then(|found| expect.check(&revision).map(|()| found)) {
        Ok(found) => {
            let version = (!whole).then_some(found.version);
            author.propose(&app.consensus, Command::DeleteTemplate { template, version }).await?
        }
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
    let selector = TemplateSelector { name: template, version };
    expect.settle(&app.consensus).await?;
    let read = app.consensus.read(move |view| {
        let versions = view.template_versions(&selector.name)?;
        Ok(match view::resolve_template(view, &selector)? {
            Ok(found) => {
                let version = selector.version.as_ref().map(|_| found.version);
                Ok((view.try_delete_template(&selector.name, version)?, versions))
            }
            Err(failure) => Err(failure),
        })
    });
    let (outcome, versions) = read.await??;
    expect.check(&view::template_revision(&versions)?)?;
    outcome.map_err(Failure::rejected)
}
