//! Templates: their versions, who holds the bytes, and how a person's selector finds one.

use crate::{
    conditional::Revision,
    ports::Observed,
    problem::{Failure, Missing},
    suggest::nearest,
};
use std::collections::BTreeMap;
use waifud_api::template::{self as wire, TemplateSelector, VersionPrefix};
use waifud_consensus::{
    Handle,
    state::{ReadError, View},
};
use waifud_model::{
    ids::NodeId,
    name::{NodeName, TemplateName},
    template::{Source, TemplateVersion},
};

/// Versions, each with how many VMs stand on it, and what is needed to show them.
struct Context {
    nodes: BTreeMap<NodeId, NodeName>,
    versions: Vec<(TemplateVersion, u32)>,
}

impl Context {
    fn read(view: &View<'_>, versions: Vec<TemplateVersion>) -> Result<Self, ReadError> {
        let counted = versions.into_iter().map(|version| {
            let vms = view.vms_from(&version.template, Some(version.version))?;
            Ok((version, vms))
        });
        let versions = counted.collect::<Result<_, ReadError>>()?;
        Ok(Self { nodes: view.nodes()?.into_iter().map(|node| (node.id, node.name)).collect(), versions })
    }

    fn all(&self, observed: &Observed) -> impl Iterator<Item = wire::TemplateVersion> {
        self.versions.iter().map(|(version, vms)| self.show(version, *vms, observed))
    }

    fn show(&self, version: &TemplateVersion, vms: u32, observed: &Observed) -> wire::TemplateVersion {
        let holds = |id: &NodeId| observed.seen(*id).is_some_and(|seen| seen.images.contains(&version.version));
        let mut nodes: Vec<NodeName> =
            self.nodes.iter().filter(|(id, _)| holds(id)).map(|(_, name)| name.clone()).collect();
        nodes.sort();
        wire::TemplateVersion {
            template: version.template.clone(),
            version: version.version,
            sha256: version.sha256,
            size: version.size,
            virtual_size: version.virtual_size,
            format: version.format,
            url: match &version.source {
                Source::Upload => None,
                Source::Url(url) => Some(url.clone()),
            },
            nodes,
            vms,
            added_at: version.added_at.into(),
        }
    }
}

/// All templates, by name.
pub(crate) async fn list(consensus: &Handle, observed: &Observed) -> Result<Vec<wire::Template>, Failure> {
    let context = consensus.read(|view| Context::read(view, view.templates()?)).await?;
    let mut shown: Vec<wire::Template> = Vec::new();
    for version in context.all(observed) {
        match shown.last_mut() {
            Some(template) if template.name == version.template => template.versions.push(version),
            _ => shown.push(wire::Template { name: version.template.clone(), versions: vec![version] }),
        }
    }
    Ok(shown)
}

/// What is wanted of a template: its versions.
pub(crate) fn revision(versions: &[TemplateVersion]) -> Result<Revision, Failure> {
    let versions: Vec<_> = versions.iter().map(|version| (&version.template, version.version)).collect();
    Revision::of(&versions)
}

/// One template, and what is wanted of it.
pub(crate) async fn one(
    consensus: &Handle,
    observed: &Observed,
    name: TemplateName,
) -> Result<(wire::Template, Revision), Failure> {
    let wanted = name.clone();
    let found = consensus
        .read(move |view| {
            let versions = view.template_versions(&wanted)?;
            if versions.is_empty() { missing(view, &wanted).map(Err) } else { Context::read(view, versions).map(Ok) }
        })
        .await?;
    let context = found.map_err(Failure::Missing)?;
    let versions: Vec<_> = context.versions.iter().map(|(version, _)| version.clone()).collect();
    let revision = revision(&versions)?;
    Ok((wire::Template { name, versions: context.all(observed).collect() }, revision))
}

/// One version, as it was just added.
pub(crate) async fn version(
    consensus: &Handle,
    observed: &Observed,
    version: &TemplateVersion,
) -> Result<wire::TemplateVersion, Failure> {
    let added = vec![version.clone()];
    let context = consensus.read(move |view| Context::read(view, added)).await?;
    context.all(observed).next().ok_or(Failure::Internal("a template version was counted and is gone"))
}

/// The version that a selector stands for.
pub(crate) fn resolve(
    view: &View<'_>,
    selector: &TemplateSelector,
) -> Result<Result<TemplateVersion, Failure>, ReadError> {
    let versions = view.template_versions(&selector.name)?;
    if versions.is_empty() {
        return Ok(Err(Failure::Missing(missing(view, &selector.name)?)));
    }
    Ok(match &selector.version {
        None => versions.into_iter().next().ok_or(Failure::Internal("a template without versions")),
        Some(prefix) => pick(&selector.name, versions, prefix),
    })
}

fn pick(
    template: &TemplateName,
    versions: Vec<TemplateVersion>,
    prefix: &VersionPrefix,
) -> Result<TemplateVersion, Failure> {
    let mut fitting: Vec<TemplateVersion> = versions.into_iter().filter(|v| prefix.matches(v.version)).collect();
    match (fitting.len(), fitting.pop()) {
        (1, Some(version)) => Ok(version),
        (0, _) | (_, None) => {
            Err(Failure::Missing(Missing::Version { template: template.clone(), prefix: prefix.to_string() }))
        }
        (count, _) => Err(Failure::Ambiguous { template: template.clone(), prefix: prefix.to_string(), count }),
    }
}

fn missing(view: &View<'_>, name: &TemplateName) -> Result<Missing, ReadError> {
    let all = view.templates()?;
    let similar = nearest(name.as_str(), all.into_iter().map(|version| version.template));
    Ok(Missing::Template { name: name.clone(), similar })
}
