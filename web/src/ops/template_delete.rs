//! Away with a template, or with one of its versions. The nodes drop the bytes when they see it in the log.

use super::propose::{Author, Done};
use crate::{app::App, problem::Failure, view};
use waifud_api::template::{TemplateSelector, VersionPrefix};
use waifud_model::{command::Command, name::TemplateName};

/// Deletes `template`, or only the version that `version` stands for.
pub(crate) async fn run(
    app: &App,
    author: &Author,
    template: TemplateName,
    version: Option<VersionPrefix>,
) -> Result<Done<()>, Failure> {
    let selector = TemplateSelector { name: template.clone(), version };
    let whole = selector.version.is_none();
    let committed = match app.consensus.read(move |view| view::resolve_template(view, &selector)).await? {
        Ok(found) => {
            let version = (!whole).then_some(found.version);
            author.propose(&app.consensus, Command::DeleteTemplate { template, version }).await?
        }
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}
