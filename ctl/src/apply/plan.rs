//! What is to be done, one step an object, in the order it is done in: templates, then nodes and VMs that change, VMs that come,
//! and last those that go.

use super::{
    compare::{Difference, Field},
    read::{Image, WantedTemplate, WantedVm},
};
use serde::Serialize;
use waifud_api::{
    cloud_init::CloudInit,
    node::NodeUpdate,
    vm::{Placement, Vm, VmCreate},
};
use waifud_model::name::NodeName;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

/// What is to be done about one object.
#[derive(Debug)]
pub(crate) struct Step {
    /// `vm web-1`.
    pub(crate) object: Object,
    pub(crate) action: Action,
    /// What is worth saying beside it.
    pub(crate) notes: Vec<String>,
}

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Object {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Object {
    pub(crate) fn vm(name: impl ToString) -> Self {
        Self { kind: "vm", name: name.to_string() }
    }

    pub(crate) fn template(name: impl ToString) -> Self {
        Self { kind: "template", name: name.to_string() }
    }

    pub(crate) fn node(name: impl ToString) -> Self {
        Self { kind: "node", name: name.to_string() }
    }
}

/// See [`Step`].
#[derive(Debug)]
pub(crate) enum Action {
    /// A template gets a version.
    AddVersion { wanted: WantedTemplate, image: Image },
    /// A VM is made; where it would go, if that can be said already.
    Create { wanted: Box<WantedVm>, request: Box<VmCreate>, placement: Option<Placement> },
    /// A VM is changed.
    Change { wanted: Box<WantedVm>, vm: Box<Vm>, difference: Box<Difference>, told: Option<Box<CloudInit>> },
    /// A node gets other labels.
    Label { node: NodeName, fields: Vec<Field>, update: NodeUpdate },
    /// It is as it shall be.
    Unchanged,
    /// A VM goes, because it has the label and is in no file.
    Delete { vm: Box<Vm> },
    /// It cannot be as it shall be; the words say why and what can be done.
    Cannot { fields: Vec<Field>, why: Vec<String>, exit: waifud_api::exit::Exit },
}

impl Action {
    /// The word for programs.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::AddVersion { .. } => "add_version",
            Self::Create { .. } => "create",
            Self::Change { .. } | Self::Label { .. } => "change",
            Self::Unchanged => "unchanged",
            Self::Delete { .. } => "delete",
            Self::Cannot { .. } => "cannot",
        }
    }

    /// In which order things are done.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::AddVersion { .. } => 0,
            Self::Change { .. } | Self::Label { .. } => 1,
            Self::Create { .. } => 2,
            Self::Delete { .. } => 3,
            Self::Unchanged => 4,
            Self::Cannot { .. } => 5,
        }
    }

    /// What would be lost by it.
    pub(crate) fn loses(&self, object: &Object) -> Option<String> {
        match self {
            Self::Delete { vm } => Some(format!("{object} on {} with its disks", vm.node)),
            Self::Change { difference, .. } if !difference.lost.is_empty() => {
                let disks: Vec<_> = difference.lost.iter().map(|(name, size)| format!("{name} ({size})")).collect();
                Some(format!("{} of {object}", disks.join(", ")))
            }
            _ => None,
        }
    }
}

impl Plan {
    /// The question that is asked before anything is lost; none if nothing would be.
    pub(crate) fn question(&self) -> Option<String> {
        let lost: Vec<_> = self.steps.iter().filter_map(|step| step.action.loses(&step.object)).collect();
        (!lost.is_empty()).then(|| format!("Delete {}? This cannot be undone.", lost.join("; ")))
    }

    /// By what is done, in the order it is done in.
    pub(crate) fn sort(&mut self) {
        self.steps.sort_by(|a, b| (a.action.rank(), &a.object).cmp(&(b.action.rank(), &b.object)));
    }

    /// The plan for programs.
    pub(crate) fn rows(&self) -> Vec<PlanRow<'_>> {
        self.steps.iter().map(PlanRow::of).collect()
    }
}

/// A step as `-o json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct PlanRow<'a> {
    #[serde(flatten)]
    object: &'a Object,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "<[Field]>::is_empty")]
    fields: &'a [Field],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    why: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

impl<'a> PlanRow<'a> {
    fn of(step: &'a Step) -> Self {
        let (node, fields, why): (_, &[Field], &[String]) = match &step.action {
            Action::Create { placement, .. } => (placement.as_ref().map(|p| p.node.to_string()), &[], &[]),
            Action::Change { vm, difference, .. } => (Some(vm.node.to_string()), &difference.fields, &[]),
            Action::Delete { vm } => (Some(vm.node.to_string()), &[], &[]),
            Action::Label { fields, .. } => (None, fields, &[]),
            Action::Cannot { fields, why, .. } => (None, fields, why),
            Action::AddVersion { .. } | Action::Unchanged => (None, &[], &[]),
        };
        Self { object: &step.object, action: step.action.word(), node, fields, why, notes: &step.notes }
    }
}
