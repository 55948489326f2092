//! VMs, templates and labels of nodes as documents that describe them, and those as text. Applied where they came from, they change nothing.
//!
//! What is as by default is left out, and so is what says where something is (node, address): a description can be applied
//! elsewhere. Pure.

use crate::exit::Failure;
use serde::Serialize;
use std::collections::BTreeMap;
use waifud_api::{
    cloud_init::CloudInit,
    document::{Document, NodeDocument, Size, TemplateDocument, VmDocument},
    node::Node,
    template::{Template, TemplateSelector},
    vm::{TemplateRef, Vm, VmCreate},
};
use waifud_model::{
    cloud_init::{Datasource, Imds},
    vm::{Desired, RestartPolicy},
};

/// Describes a VM. `told` is what its guest is told, if that may be seen and is wanted; without it the documents for the guest
/// are not named, and so are left alone. `templates` tell whether the bare name stands for what the VM was made from.
pub(crate) fn vm(vm: &Vm, told: Option<CloudInit>, templates: &[Template]) -> VmDocument {
    let hardware = &vm.hardware;
    let mut document = VmDocument::new(vm.name.clone(), selector(&vm.template, templates));
    document.running = match vm.desired {
        Desired::Running => Some(true),
        Desired::Stopped => Some(false),
        // Held still for a while: a description has no word for that, and does not end it.
        Desired::Paused => None,
    };
    document.cpus = Some(vm.cpus);
    document.memory = Some(Size(vm.memory));
    document.memory_max = hardware.memory_max.map(|most| Some(Size(most)));
    document.disk = Some(Size(vm.disk));
    let disks: BTreeMap<_, _> = hardware.disks.iter().map(|(name, size)| (name.clone(), Size(*size))).collect();
    document.disks = other(disks, &BTreeMap::new());
    document.cd = hardware.cd.as_ref().map(|cd| Some(selector(cd, templates)));
    document.bridges = other(hardware.bridges.clone(), &Vec::new());
    document.firmware = other(hardware.firmware, &Default::default());
    document.cpu_model = other(hardware.cpu_model.clone(), &Default::default());
    document.labels = other(vm.labels.clone(), &Default::default());
    document.description = other(vm.description.clone(), &String::new());
    document.protected = other(vm.protected, &false);
    document.autostart = other(vm.autostart, &VmCreate::from_template(document.template.clone()).autostart);
    document.restart = other(vm.restart, &RestartPolicy::default());
    document.ssh_keys = other(vm.ssh_keys.clone(), &Vec::new());
    document.datasource = other(vm.datasource, &Datasource::default());
    document.imds = other(vm.imds, &Imds::default());
    if let Some(told) = told {
        document.user_data = told.user_data.map(Some);
        document.network_config = told.network_config.map(Some);
    }
    document
}

fn other<T: PartialEq>(value: T, default: &T) -> Option<T> {
    Some(value).filter(|value| value != default)
}

/// The bare name where it stands for this version, else the name with the version.
fn selector(template: &TemplateRef, templates: &[Template]) -> TemplateSelector {
    let newest = templates.iter().find(|known| known.name == template.name).and_then(|known| known.versions.first());
    let is_newest = newest.is_some_and(|newest| newest.version == template.version);
    TemplateSelector { name: template.name.clone(), version: (!is_newest).then(|| template.version.into()) }
}

/// Describes the newest version of a template; none if it did not come from the web, so that nobody else can have it from there.
pub(crate) fn template(template: &Template) -> Option<TemplateDocument> {
    let newest = template.versions.first()?;
    let url = newest.url.clone()?;
    Some(TemplateDocument { name: template.name.clone(), url: Some(url), file: None, sha256: Some(newest.sha256) })
}

/// Describes a node: what people say of it, and nothing of what it is.
pub(crate) fn node(node: &Node) -> NodeDocument {
    NodeDocument { name: node.name.clone(), labels: Some(node.labels.clone()) }
}

/// One document after the other.
pub(crate) fn yaml(documents: &[Document]) -> Result<String, Failure> {
    let mut text = String::new();
    for document in documents {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let options = serde_saphyr::ser_options! { prefer_block_scalars: true, yaml_12: false };
        serde_saphyr::to_fmt_writer_with_options(&mut text, document, options).map_err(|e| fault(e.to_string()))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// Lists by kind: TOML has one root.
#[derive(Debug, Default, Serialize)]
struct Lists<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    template: Vec<&'a TemplateDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node: Vec<&'a NodeDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vm: Vec<&'a VmDocument>,
}

/// Documents as lists by kind.
pub(crate) fn toml(documents: &[Document]) -> Result<String, Failure> {
    let mut lists = Lists::default();
    for document in documents {
        match document {
            Document::Vm(vm) => lists.vm.push(vm),
            Document::Template(template) => lists.template.push(template),
            Document::Node(node) => lists.node.push(node),
        }
    }
    toml::to_string_pretty(&lists).map_err(|e| fault(e.to_string()))
}

fn fault(error: String) -> Failure {
    Failure::Io { what: "the output", source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests;
