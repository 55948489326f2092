//! A new template version: bytes into this node's store first, verified, then the record into the log.
//!
//! The order matters: a version that the cluster knows has its bytes on at least one node. Until the record is in the log
//! the bytes belong to nobody, and a refusal lets them go again.

use super::propose::{self, Author, Done};
use crate::{app::App, ports::ImageSource, problem::Failure, view};
use waifud_api::template as wire;
use waifud_consensus::ProposeError;
use waifud_model::{
    command::{Command, Reply},
    digest::Sha256,
    name::TemplateName,
    reject::Reject,
    template::{Source, TemplateVersion},
};

/// Takes an image in and makes it a version of `template`.
pub(crate) async fn run(
    app: &App,
    author: &Author,
    template: TemplateName,
    source: ImageSource,
    expected: Option<Sha256>,
) -> Result<Done<wire::TemplateVersion>, Failure> {
    // Without a quorum the version could not be recorded: better said before the upload than after it.
    app.consensus.linearize(crate::LINEARIZE_WITHIN).await.map_err(Failure::Linearize)?;
    let origin = match &source {
        ImageSource::Upload(_) => Source::Upload,
        ImageSource::Url(url) => Source::Url(url.clone()),
    };
    let image = app.images.import(source, expected).await?;
    let record = TemplateVersion {
        template,
        version: image.version,
        sha256: image.sha256,
        size: image.size,
        virtual_size: image.virtual_size,
        format: image.format,
        source: origin,
        origin: app.node,
        // Apply puts the log's time here, so that all nodes agree on which version is the newest.
        added_at: app.clock.now(),
    };
    let committed = match author.propose(&app.consensus, Command::AddTemplateVersion(Box::new(record))).await {
        Ok(committed) => committed,
        Err(failure) => {
            if surely_not_done(&failure) {
                app.images.release(image.version).await;
            }
            return Err(failure);
        }
    };
    let done = propose::expect(committed, |reply| match reply {
        Reply::Template(version) => Some(*version),
        _ => None,
    })?;
    let mut shown = view::template_version(&app.consensus, &app.observed(), &done.value).await?;
    // Gossip may not have told yet what is known here.
    if let Err(place) = shown.nodes.binary_search(&app.name) {
        shown.nodes.insert(place, app.name.clone());
    }
    Ok(done.map(|_| shown))
}

/// Where the outcome is unknown the record may yet appear, and its bytes must be here then; where the template has the
/// version already, the bytes are its own.
fn surely_not_done(failure: &Failure) -> bool {
    match failure {
        Failure::Rejected { reject, .. } => !matches!(reject, Reject::VersionExists { .. }),
        Failure::Propose(error) => !matches!(error, ProposeError::Unknown),
        _ => false,
    }
}
