//! Templates: their versions, who holds the bytes, and how a person's selector finds one.

use crate::{
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
    digest::Blake3,
    ids::NodeId,
    name::{NodeName, TemplateName},
    template::{Source, TemplateVersion},
};

/// What is needed beside the versions to show them.
struct Context {
    nodes: BTreeMap<NodeId, NodeName>,
    vms: BTreeMap<(TemplateName, Blake3), u32>,
}

impl Context {
    fn read(view: &View<'_>) -> Result<Self, ReadError> {
        let mut vms = BTreeMap::new();
        for vm in view.vms()? {
            *vms.entry((vm.spec.image.template, vm.spec.image.version)).or_default() += 1;
        }
        Ok(Self { nodes: view.nodes()?.into_iter().map(|node| (node.id, node.name)).collect(), vms })
    }

    fn show(&self, version: &TemplateVersion, observed: &Observed) -> wire::TemplateVersion {
        let holds = |id: &NodeId| observed.nodes.get(id).is_some_and(|seen| seen.images.contains(&version.version));
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
            vms: self.vms.get(&(version.template.clone(), version.version)).copied().unwrap_or(0),
            added_at: version.added_at.into(),
        }
    }
}

/// All templates, by name.
pub(crate) async fn list(consensus: &Handle, observed: &Observed) -> Result<Vec<wire::Template>, Failure> {
    let (versions, context) = consensus.read(|view| Ok((view.templates()?, Context::read(view)?))).await?;
    let mut shown: Vec<wire::Template> = Vec::new();
    for version in &versions {
        let version = context.show(version, observed);
        match shown.last_mut() {
            Some(template) if template.name == version.template => template.versions.push(version),
            _ => shown.push(wire::Template { name: version.template.clone(), versions: vec![version] }),
        }
    }
    Ok(shown)
}

/// One template.
pub(crate) async fn one(
    consensus: &Handle,
    observed: &Observed,
    name: TemplateName,
) -> Result<wire::Template, Failure> {
    let wanted = name.clone();
    let found = consensus
        .read(move |view| {
            let versions = view.template_versions(&wanted)?;
            if versions.is_empty() { missing(view, &wanted).map(Err) } else { Ok(Ok((versions, Context::read(view)?))) }
        })
        .await?;
    let (versions, context) = found.map_err(Failure::Missing)?;
    Ok(wire::Template { name, versions: versions.iter().map(|version| context.show(version, observed)).collect() })
}

/// One version, as it was just added.
pub(crate) async fn version(
    consensus: &Handle,
    observed: &Observed,
    version: &TemplateVersion,
) -> Result<wire::TemplateVersion, Failure> {
    let context = consensus.read(Context::read).await?;
    Ok(context.show(version, observed))
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
