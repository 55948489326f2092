//! What is there, and what the cluster says of what would be: everything a plan needs. Nothing is changed.
//!
//! What the cluster refuses on trial stands in the plan as what cannot be, beside all that can; only when it cannot be asked at
//! all there is no plan.

use super::{
    compare::{self, Difference},
    plan::{Action, Object, Plan, Step},
    read::{Image, Wanted, WantedNode, WantedTemplate, WantedVm},
};
use crate::{
    context::Context,
    exit::{Failure, cause, told_apart},
    wait,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256 as Hasher};
use std::{collections::BTreeSet, io::Read as _, path::Path};
use waifud_api::{
    client::{ClientError, IdempotencyKey},
    cloud_init::{CloudInit, CloudInitQuery},
    exit::Exit,
    filter::{Filter, Term},
    node::NodeUpdate,
    problem::Problem,
    template::Template,
    vm::Vm,
    vm_change::VmUpdate,
};
use waifud_model::{
    digest::Sha256,
    labels::Label,
    name::{TemplateName, VmName},
    vm::Phase,
};

/// How many questions are under way at once: a plan for a hundred VMs takes a moment, and no node notices it.
const AT_ONCE: usize = 8;

/// How much of an image is read at a time.
const CHUNK: usize = 1 << 20;

/// Makes the plan. VMs that have all of `prune`'s labels and are not wanted go; with none of them nothing goes.
pub(crate) async fn survey(context: &Context, wanted: Wanted, prune: &[Label]) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut coming = BTreeSet::new();
    if !wanted.templates.is_empty() {
        let have = context.fresh(context.client.templates().await?);
        for template in wanted.templates {
            let step = version(context, template, &have)?;
            if let Action::AddVersion { wanted, .. } = &step.action {
                coming.insert(wanted.name.clone());
            }
            plan.steps.push(step);
        }
    }
    let steps = stream::iter(wanted.nodes).map(|node| labels(context, node)).buffered(AT_ONCE);
    plan.steps.extend(steps.try_collect::<Vec<_>>().await?);
    let kept: BTreeSet<VmName> = wanted.vms.iter().map(|vm| vm.document.name.clone()).collect();
    let steps = stream::iter(wanted.vms).map(|vm| one(context, vm, &coming)).buffered(AT_ONCE);
    plan.steps.extend(steps.try_collect::<Vec<_>>().await?);
    if !prune.is_empty() {
        let filter: Filter = prune.iter().cloned().map(Term::Label).collect();
        let labelled = context.fresh(context.client.vms(&filter).await?);
        let others = labelled.into_iter().filter(|vm| vm.phase == Phase::Live && !kept.contains(&vm.name));
        let steps = stream::iter(others).map(|vm| away(context, vm)).buffered(AT_ONCE);
        plan.steps.extend(steps.try_collect::<Vec<_>>().await?);
    }
    plan.sort();
    Ok(plan)
}

/// Is a version with these bytes there?
fn version(context: &Context, wanted: WantedTemplate, have: &[Template]) -> Result<Step, Failure> {
    let object = Object::template(&wanted.name);
    let image = match wanted.image.clone() {
        Image::File { path, sha256: None } => {
            let _phase = context.progress.phase(&format!("reading {}", path.display()));
            let sha256 = Some(digest(&path)?);
            Image::File { path, sha256 }
        }
        image => image,
    };
    let (Image::Url { sha256, .. } | Image::File { sha256: Some(sha256), .. }) = &image else {
        return Err(Failure::Usage(format!("{}: the bytes of {object} are not known", wanted.origin)));
    };
    let versions =
        have.iter().find(|template| template.name == wanted.name).map(|template| template.versions.as_slice());
    let place = versions.unwrap_or_default().iter().position(|version| version.sha256 == *sha256);
    let notes = match place {
        Some(place) if place > 0 => {
            vec!["it has this version, and newer ones, which the bare name stands for".to_owned()]
        }
        _ => Vec::new(),
    };
    let action = if place.is_some() { Action::Unchanged } else { Action::AddVersion { wanted, image } };
    Ok(Step { object, action, notes })
}

fn digest(path: &Path) -> Result<Sha256, Failure> {
    let fault = |source| Failure::File { path: path.display().to_string(), source };
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let (mut hasher, mut chunk) = (Hasher::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(fault)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

/// What is to be done about a node. That it is there is its own doing: no document makes one.
async fn labels(context: &Context, wanted: WantedNode) -> Result<Step, Failure> {
    let object = Object::node(&wanted.document.name);
    let node = match context.client.node(&wanted.document.name).await {
        Ok(answer) => context.fresh(answer),
        Err(ClientError::Problem(problem)) if problem.exit() == Exit::NotFound => {
            let joins =
                "a machine becomes a node by itself: waifud join, with a token of waifuctl cluster token create";
            let (why, exit) = (vec![words(&problem), joins.to_owned()], problem.exit());
            return Ok(Step { object, action: Action::Cannot { fields: Vec::new(), why, exit }, notes: Vec::new() });
        }
        Err(error) => return Err(error.into()),
    };
    let labels = wanted.document.labels.unwrap_or_else(|| node.labels.clone());
    let (fields, labels) = compare::labels(&labels, &node.labels);
    let action = if fields.is_empty() {
        Action::Unchanged
    } else {
        Action::Label { node: node.name, fields, update: NodeUpdate { labels } }
    };
    Ok(Step { object, action, notes: Vec::new() })
}

/// What is to be done about a VM that is wanted.
async fn one(context: &Context, wanted: WantedVm, coming: &BTreeSet<TemplateName>) -> Result<Step, Failure> {
    match context.client.vm(&wanted.document.name).await {
        Ok(answer) => change(context, wanted, context.fresh(answer)).await,
        Err(error) if wait::is_missing(&error) => new(context, wanted, coming).await,
        Err(error) => Err(error.into()),
    }
}

async fn new(context: &Context, wanted: WantedVm, coming: &BTreeSet<TemplateName>) -> Result<Step, Failure> {
    let object = Object::vm(&wanted.document.name);
    let request = Box::new(compare::create(&wanted.document));
    let waits = [Some(&request.template), request.cd.as_ref()].into_iter().flatten().find(|t| coming.contains(&t.name));
    if let Some(template) = waits {
        let notes = vec![format!("where it goes is known when template {} is there", template.name)];
        let action = Action::Create { wanted: Box::new(wanted), request, placement: None };
        return Ok(Step { object, action, notes });
    }
    match context.client.preview_vm(&request).await {
        Ok(answer) => {
            let found = context.fresh(answer);
            let notes = found.warnings.iter().map(|warning| wanted.sources.name(warning)).collect();
            let placement = Some(found.placement);
            Ok(Step { object, action: Action::Create { wanted: Box::new(wanted), request, placement }, notes })
        }
        Err(error) => refused(object, &wanted, Difference::default(), error),
    }
}

async fn change(context: &Context, wanted: WantedVm, vm: Vm) -> Result<Step, Failure> {
    let object = Object::vm(&vm.name);
    let mut difference = compare::compare(&wanted.document, &vm);
    let mut notes = std::mem::take(&mut difference.notes);
    if !difference.cannot.is_empty() {
        let (fields, why) = (difference.fields, difference.cannot);
        return Ok(Step { object, action: Action::Cannot { fields, why, exit: Exit::Conflict }, notes });
    }
    if difference.fields.is_empty() {
        return Ok(Step { object, action: Action::Unchanged, notes });
    }
    if difference.update != VmUpdate::default()
        && let Err(error) = context.client.preview_update(&vm.name, &difference.update).await
    {
        return refused(object, &wanted, difference, error);
    }
    let told = match told(context, &wanted, &vm, &difference).await {
        Ok((told, warnings)) => {
            notes.extend(warnings);
            told.map(Box::new)
        }
        Err(error) => return refused(object, &wanted, difference, error),
    };
    let action = Action::Change { wanted: Box::new(wanted), vm: Box::new(vm), difference: Box::new(difference), told };
    Ok(Step { object, action, notes })
}

/// All that the guest is to be told, checked, if any of it is different; and what is odd about it.
async fn told(
    context: &Context,
    wanted: &WantedVm,
    vm: &Vm,
    difference: &Difference,
) -> Result<(Option<CloudInit>, Vec<String>), ClientError> {
    if !difference.told {
        return Ok((None, Vec::new()));
    }
    let (now, generation) = context.fresh(context.client.cloud_init(&vm.name).await?);
    let told = compare::told(&wanted.document, now);
    let trial = CloudInitQuery { rerun: false, dry_run: true };
    let key = IdempotencyKey::random();
    let saved = context.client.set_cloud_init(&vm.name, &told, trial, generation, &key).await?;
    let warnings = context.fresh(saved).warnings;
    Ok((Some(told), warnings.iter().map(|warning| wanted.sources.name(warning)).collect()))
}

/// What to do about a VM that is not wanted any more.
async fn away(context: &Context, vm: Vm) -> Result<Step, Failure> {
    let object = Object::vm(&vm.name);
    let action = match context.client.preview_delete(&vm.name).await {
        Ok(_) => Action::Delete { vm: Box::new(vm) },
        Err(ClientError::Problem(problem)) => {
            let why = vec![format!("it is in no file, and would be deleted: {}", words(&problem))];
            Action::Cannot { fields: Vec::new(), why, exit: problem.exit() }
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Step { object, action, notes: Vec::new() })
}

/// What the cluster refuses is a part of the plan; that it cannot be asked is not.
fn refused(object: Object, wanted: &WantedVm, difference: Difference, error: ClientError) -> Result<Step, Failure> {
    let problem = match wanted.sources.blame(Failure::Client(error)) {
        Failure::Client(ClientError::Problem(problem)) => problem,
        other => return Err(other),
    };
    let why = vec![words(&problem)];
    let action = Action::Cannot { fields: difference.fields, why, exit: problem.exit() };
    Ok(Step { object, action, notes: Vec::new() })
}

/// A refusal in one line: what is wrong, each node's part, what to do.
fn words(problem: &Problem) -> String {
    let fields = told_apart(problem).map(|error| format!("{}: {}", error.field, error.message));
    let nodes = problem.nodes.iter().map(|node| format!("{} {}", node.node, node.reason));
    let more: Vec<_> = fields.chain(nodes).collect();
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    let remedy = problem.remedy.as_ref().map(|remedy| format!("; try: {remedy}")).unwrap_or_default();
    format!("{}{more} [{}]{remedy}", cause(problem), problem.code)
}
