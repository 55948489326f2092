//! A document and a VM that is there: what differs, and what would have to be asked of the API. Pure.
//!
//! What the document does not name is not looked at. Documents for the guest are told apart by their digests, and shown by
//! digest and size only: they often hold secrets.

use serde::Serialize;
use std::{collections::BTreeMap, fmt::Display};
use waifud_api::{
    cloud_init::CloudInit,
    document::{Size, VmDocument},
    template::TemplateSelector,
    user_data::{UserDataIn, UserDataInfo},
    vm::{TemplateRef, Vm, VmCreate},
    vm_change::VmUpdate,
};
use waifud_model::{
    labels::{LabelPatch, Labels},
    name::DiskName,
    observed::VmState,
    size::ByteSize,
    vm::{Desired, Phase},
};

/// One field that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Field {
    /// Which, as in the document.
    pub(crate) field: String,
    /// What is, if it is anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old: Option<String>,
    /// What shall be, if it shall be anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new: Option<String>,
    /// When the running guest takes it up; none if it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) takes: Option<Takes>,
}

/// When a running guest takes a change up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takes {
    /// It has nothing to do with the guest.
    AtOnce,
    /// While it runs, if it can; else when it is started again.
    LiveOrNextStart,
    /// When it is started again.
    NextStart,
}

impl Takes {
    /// In words; none where nothing is worth saying.
    pub(crate) const fn words(self) -> Option<&'static str> {
        match self {
            Self::AtOnce => None,
            Self::LiveOrNextStart => Some("while it runs, if the guest can; else at its next start"),
            Self::NextStart => Some("at its next start"),
        }
    }
}

/// What differs, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Difference {
    /// All fields that are different, in the order of the document's fields.
    pub(crate) fields: Vec<Field>,
    /// What `PATCH` would be sent.
    pub(crate) update: VmUpdate,
    /// Are documents for the guest, or how they are served, different?
    pub(crate) told: bool,
    /// On with it, or off.
    pub(crate) running: Option<bool>,
    /// Disks that would go, with all that is on them.
    pub(crate) lost: Vec<(DiskName, ByteSize)>,
    /// What cannot be brought about by a change, and what can be done instead.
    pub(crate) cannot: Vec<String>,
    /// What does not count any more, because the VM is made.
    pub(crate) notes: Vec<String>,
}

/// What `document` asks for that `vm` is not.
pub(crate) fn compare(document: &VmDocument, vm: &Vm) -> Difference {
    let runs = matches!(vm.status.state, VmState::Running | VmState::Paused);
    let mut found = Finder { difference: Difference::default(), runs };
    if vm.phase == Phase::Deleting {
        found.difference.cannot.push("it is being deleted; apply again when it is gone".to_owned());
        return found.difference;
    }
    found.made(document, vm);
    found.sizes(document, vm);
    found.devices(document, vm);
    found.upkeep(document, vm);
    found.told(document, vm);
    found.power(document, vm);
    found.difference
}

struct Finder {
    difference: Difference,
    runs: bool,
}

impl Finder {
    fn field(&mut self, field: impl Into<String>, old: Option<String>, new: Option<String>, takes: Takes) {
        let takes = self.runs.then_some(takes);
        self.difference.fields.push(Field { field: field.into(), old, new, takes });
    }

    /// Notes a field if it is named and different, and gives the value that is to be sent.
    fn differs<T: PartialEq + Clone + Display>(
        &mut self,
        field: &str,
        wanted: Option<&T>,
        have: &T,
        takes: Takes,
    ) -> Option<T> {
        let wanted = wanted.filter(|wanted| *wanted != have)?;
        self.field(field, Some(have.to_string()), Some(wanted.to_string()), takes);
        Some(wanted.clone())
    }

    /// What counts only when a VM is made.
    fn made(&mut self, document: &VmDocument, vm: &Vm) {
        if !is_from(&document.template, &vm.template) {
            let (have, wanted) = (selector(&vm.template), &document.template);
            self.difference.cannot.push(format!(
                "template: it was made from {have}, not from {wanted}; waifuctl reinit {} -t {wanted} makes it anew \
                 (what is on its root disk is lost)",
                vm.name
            ));
        }
        if let Some(node) = document.node.as_ref().filter(|node| **node != vm.node) {
            self.difference.notes.push(format!("node: it is on {}; {node} counted only when it was made", vm.node));
        }
    }

    fn sizes(&mut self, document: &VmDocument, vm: &Vm) {
        let live = Takes::LiveOrNextStart;
        self.difference.update.cpus = self.differs("cpus", document.cpus.as_ref(), &vm.cpus, live);
        let memory = document.memory.map(|size| size.0);
        self.difference.update.memory = self.differs("memory", memory.as_ref(), &vm.memory, live);
        let wanted = document.memory_max.map(|most| most.map(|size| size.0));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != vm.hardware.memory_max) {
            self.field("memory_max", shown(vm.hardware.memory_max), shown(wanted), Takes::NextStart);
            self.difference.update.memory_max = Some(wanted);
        }
        let disk = document.disk.map(|size| size.0).filter(|wanted| self.grows("disk", vm.disk, *wanted));
        self.difference.update.disk = self.differs("disk", disk.as_ref(), &vm.disk, live);
        self.disks(document.disks.as_ref(), vm);
    }

    fn disks(&mut self, wanted: Option<&BTreeMap<DiskName, Size>>, vm: &Vm) {
        let Some(wanted) = wanted else { return };
        let have = &vm.hardware.disks;
        for (name, size) in wanted {
            let old = have.get(name).copied();
            let field = format!("disks.{name}");
            if old == Some(size.0) || !old.is_none_or(|old| self.grows(&field, old, size.0)) {
                continue;
            }
            self.field(field, shown(old), Some(size.0.to_string()), Takes::LiveOrNextStart);
            self.difference.update.disks.insert(name.clone(), Some(size.0));
        }
        for (name, size) in have.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            self.field(format!("disks.{name}"), shown(Some(*size)), None, Takes::LiveOrNextStart);
            self.difference.update.disks.insert(name.clone(), None);
            self.difference.lost.push((name.clone(), *size));
        }
    }

    /// Disks only grow.
    fn grows(&mut self, field: &str, have: ByteSize, wanted: ByteSize) -> bool {
        if wanted < have {
            let (least, wanted) = (Size(have), Size(wanted));
            self.difference
                .cannot
                .push(format!("{field}: it has {least}, and disks never shrink to {wanted}; write {least}"));
        }
        wanted >= have
    }

    fn devices(&mut self, document: &VmDocument, vm: &Vm) {
        let have = &vm.hardware;
        if let Some(wanted) = &document.cd
            && !same_cd(wanted.as_ref(), have.cd.as_ref())
        {
            self.field("cd", have.cd.as_ref().map(selector), shown(wanted.as_ref()), Takes::LiveOrNextStart);
            self.difference.update.cd = Some(wanted.clone());
        }
        if let Some(wanted) = document.bridges.as_ref().filter(|wanted| **wanted != have.bridges) {
            self.field("bridges", listed(&have.bridges), listed(wanted), Takes::LiveOrNextStart);
            self.difference.update.bridges = Some(wanted.clone());
        }
        self.difference.update.firmware =
            self.differs("firmware", document.firmware.as_ref(), &have.firmware, Takes::NextStart);
        self.difference.update.cpu_model =
            self.differs("cpu_model", document.cpu_model.as_ref(), &have.cpu_model, Takes::NextStart);
    }

    fn upkeep(&mut self, document: &VmDocument, vm: &Vm) {
        if let Some(wanted) = &document.labels {
            let (fields, patch) = labels(wanted, &vm.labels);
            fields.into_iter().for_each(|found| self.field(found.field, found.old, found.new, Takes::AtOnce));
            self.difference.update.labels = patch;
        }
        if let Some(wanted) = document.description.as_ref().filter(|wanted| **wanted != vm.description) {
            let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            self.field("description", text(&vm.description), text(wanted), Takes::AtOnce);
            self.difference.update.description = Some(wanted.clone());
        }
        let now = Takes::AtOnce;
        self.difference.update.protected = self.differs("protected", document.protected.as_ref(), &vm.protected, now);
        self.difference.update.autostart = self.differs("autostart", document.autostart.as_ref(), &vm.autostart, now);
        if let Some(wanted) = document.restart.filter(|wanted| *wanted != vm.restart) {
            // The word of the document, which is the API's, not the one of the command line.
            self.field("restart", word(&vm.restart), word(&wanted), now);
            self.difference.update.restart = Some(wanted);
        }
    }

    fn told(&mut self, document: &VmDocument, vm: &Vm) {
        let before = self.difference.fields.len();
        let keys = |keys: &[String]| if keys.is_empty() { None } else { Some(format!("{} keys", keys.len())) };
        if let Some(wanted) = document.ssh_keys.as_ref().filter(|wanted| **wanted != vm.ssh_keys) {
            self.field("ssh_keys", keys(&vm.ssh_keys), keys(wanted), Takes::NextStart);
        }
        for (field, wanted, have) in [
            ("user_data", &document.user_data, &vm.user_data),
            ("network_config", &document.network_config, &vm.network_config),
        ] {
            let Some(wanted) = wanted else { continue };
            let wanted = wanted.as_ref().map(|data| UserDataInfo::from(&data.0));
            if wanted != *have {
                self.field(field, have.as_ref().map(info), wanted.as_ref().map(info), Takes::NextStart);
            }
        }
        self.differs("datasource", document.datasource.as_ref(), &vm.datasource, Takes::NextStart);
        self.differs("imds", document.imds.as_ref(), &vm.imds, Takes::NextStart);
        self.difference.told = self.difference.fields.len() > before;
    }

    fn power(&mut self, document: &VmDocument, vm: &Vm) {
        let as_wanted = match document.running {
            None => true,
            Some(running) => vm.desired == if running { Desired::Running } else { Desired::Stopped },
        };
        if !as_wanted {
            let now = match vm.desired {
                Desired::Running => "true",
                Desired::Stopped => "false",
                Desired::Paused => "paused",
            };
            self.field("running", Some(now.to_owned()), shown(document.running), Takes::AtOnce);
            self.difference.running = document.running;
        }
    }
}

/// The labels that come, change or go, where all there shall be are `wanted`.
pub(crate) fn labels(wanted: &Labels, have: &Labels) -> (Vec<Field>, LabelPatch) {
    let come = wanted.iter().filter(|(key, value)| have.get(key) != Some(value)).map(|(key, value)| (key, Some(value)));
    let go = have.iter().filter(|(key, _)| wanted.get(key).is_none()).map(|(key, _)| (key, None));
    let changes: Vec<(&str, Option<&str>)> = come.chain(go).collect();
    let field = |(key, new): &(&str, Option<&str>)| Field {
        field: format!("labels.{key}"),
        old: have.get(key).map(str::to_owned),
        new: new.map(str::to_owned),
        takes: None,
    };
    let fields = changes.iter().map(field).collect();
    let patch = changes.into_iter().map(|(key, new)| (key.to_owned(), new.map(str::to_owned)));
    (fields, LabelPatch(patch.collect()))
}

/// Was it made from what the selector names?
pub(crate) fn is_from(selector: &TemplateSelector, template: &TemplateRef) -> bool {
    selector.name == template.name && selector.version.as_ref().is_none_or(|prefix| prefix.matches(template.version))
}

fn same_cd(wanted: Option<&TemplateSelector>, have: Option<&TemplateRef>) -> bool {
    match (wanted, have) {
        (Some(wanted), Some(have)) => is_from(wanted, have),
        (wanted, have) => wanted.is_none() && have.is_none(),
    }
}

fn selector(template: &TemplateRef) -> String {
    format!("{}@{}", template.name, template.version.short())
}

fn shown<T: Display>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn listed<T: Display>(list: &[T]) -> Option<String> {
    let words: Vec<_> = list.iter().map(ToString::to_string).collect();
    if words.is_empty() { None } else { Some(words.join(", ")) }
}

/// The word of the API.
fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// What may be shown of a document for the guest.
pub(crate) fn info(info: &UserDataInfo) -> String {
    format!("{} bytes, BLAKE3 {}", info.size, info.digest.short())
}

/// What a guest is to be told: what the document names, and of the rest what it is told now.
pub(crate) fn told(document: &VmDocument, now: CloudInit) -> CloudInit {
    let pick = |wanted: &Option<Option<UserDataIn>>, now| wanted.clone().unwrap_or(now);
    CloudInit {
        user_data: pick(&document.user_data, now.user_data),
        network_config: pick(&document.network_config, now.network_config),
        ssh_keys: document.ssh_keys.clone().unwrap_or(now.ssh_keys),
        datasource: document.datasource.unwrap_or(now.datasource),
        imds: document.imds.unwrap_or(now.imds),
    }
}

/// The VM that the document describes, where there is none of the name.
pub(crate) fn create(document: &VmDocument) -> VmCreate {
    let base = VmCreate::from_template(document.template.clone());
    let document = document.clone();
    VmCreate {
        name: Some(document.name),
        cpus: document.cpus.unwrap_or(base.cpus),
        memory: document.memory.map_or(base.memory, |size| size.0),
        disk: document.disk.map(|size| size.0),
        node: document.node,
        user_data: document.user_data.flatten(),
        network_config: document.network_config.flatten(),
        ssh_keys: document.ssh_keys.unwrap_or_default(),
        datasource: document.datasource.unwrap_or_default(),
        imds: document.imds.unwrap_or_default(),
        labels: document.labels.unwrap_or_default(),
        restart: document.restart.unwrap_or_default(),
        description: document.description.unwrap_or_default(),
        protected: document.protected.unwrap_or(base.protected),
        autostart: document.autostart.unwrap_or(base.autostart),
        firmware: document.firmware.unwrap_or_default(),
        cpu_model: document.cpu_model.unwrap_or_default(),
        memory_max: document.memory_max.flatten().map(|size| size.0),
        disks: document.disks.unwrap_or_default().into_iter().map(|(name, size)| (name, size.0)).collect(),
        cd: document.cd.flatten(),
        bridges: document.bridges.unwrap_or_default(),
        start: document.running.unwrap_or(base.start),
        ..base
    }
}

#[cfg(test)]
pub(crate) mod tests;
