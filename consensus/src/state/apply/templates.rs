//! Template versions: added, deleted. A template is there as long as it has a version.

use super::{
    super::{events::Changes, read::ReadError, rows, stop::Stop, view::View},
    Work, limits,
};
use waifud_model::{
    command::Reply,
    digest::Blake3,
    event::{EventKind, Subject},
    name::TemplateName,
    reject::Reject,
    template::{Source, TemplateVersion},
    token::Role,
};

pub(super) fn add(work: &mut Work<'_>, version: &TemplateVersion) -> Result<Reply, Stop> {
    work.standing.at_least_or_owner(Role::Operator, version.origin)?;
    limits::template(version)?;
    if work.view.node(version.origin)?.is_none() {
        return Err(Reject::NoSuchNode(version.origin).into());
    }
    let template = version.template.clone();
    if work.view.template_version(&template, version.version)?.is_some() {
        return Err(Reject::VersionExists { template, version: version.version }.into());
    }
    let newest = work.view.newest_version(&template)?;
    let version = TemplateVersion { added_at: work.now, ..version.clone() };
    rows::template::insert(work.db, &version, work.index)?;
    let (kind, changes) = match newest {
        None => (EventKind::Created, Changes::none().set("version", version.version)),
        Some(newest) => (EventKind::Changed, Changes::none().diff("version", &newest.version, &version.version)),
    };
    let mut changes = changes
        .set("sha256", version.sha256)
        .set("size", version.size)
        .set("virtual_size", version.virtual_size)
        .set("origin", version.origin);
    if let Source::Url(url) = &version.source {
        changes = changes.set("source", public_part(url));
    }
    work.trail.add(Subject::Template(template), kind, changes)?;
    Ok(Reply::Template(Box::new(version)))
}

pub(super) fn delete(work: &mut Work<'_>, template: &TemplateName, version: Option<Blake3>) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    let versions = work.view.template_versions(template)?;
    if versions.is_empty() {
        return Err(Reject::NoSuchTemplate(template.clone()).into());
    }
    let doomed: Vec<&TemplateVersion> =
        versions.iter().filter(|found| version.is_none_or(|version| found.version == version)).collect();
    if let Some(version) = version.filter(|_| doomed.is_empty()) {
        return Err(Reject::NoSuchVersion { template: template.clone(), version }.into());
    }
    unused(work.view, template, version)??;
    let mut changes = Changes::none();
    for found in &doomed {
        rows::template::delete(work.db, template, found.version)?;
        changes = changes.unset("version", found.version);
    }
    let kind = if doomed.len() == versions.len() { EventKind::Deleted } else { EventKind::Changed };
    work.trail.add(Subject::Template(template.clone()), kind, changes)?;
    Ok(Reply::Done)
}

/// No VM may stand on what goes.
pub(in super::super) fn unused(
    view: View<'_>,
    template: &TemplateName,
    version: Option<Blake3>,
) -> Result<Result<(), Reject>, ReadError> {
    Ok(match view.vms_from(template, version)? {
        0 => Ok(()),
        count => Err(Reject::TemplateInUse { template: template.clone(), count }),
    })
}

/// An URL without what lets its bearer in: user and password before the host, the signature after the question mark.
fn public_part(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
