//! Carries a plan out, step by step. One that fails does not stop the others; each end is told where it happens.
//!
//! A run that breaks off can be repeated: the plan is made anew from what is there, and what the broken run had sent but heard
//! nothing of is sent with the same key, which is made of the request itself. What was changed since the plan was made is not
//! overwritten: every change says which generation it is meant for.

use super::{
    compare::{Difference, Field},
    plan::{Action, Object, Plan, Step},
    read::{Image, WantedTemplate, WantedVm},
};
use crate::{
    commands::{change::waits, create::reasons},
    context::Context,
    exit::{self, Failure},
    output::{Cell, Column, Look, Row, Tone},
    wait::{self, Goal},
};
use serde::Serialize;
use waifud_api::{
    client::IdempotencyKey,
    cloud_init::{CloudInit, CloudInitQuery},
    exit::Exit,
    node::NodeUpdate,
    template::TemplateAdd,
    vm::{Vm, VmCreate},
    vm_change::VmUpdate,
};
use waifud_model::{digest::Blake3, name::NodeName, vm::Desired};

/// How often an answer may be that of an earlier life of a VM: one that was made by the same document and deleted within the day
/// that keys are remembered.
const LIVES: u32 = 16;

/// What became of a step.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    object: Object,
    action: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Row for Outcome {
    const COLUMNS: &'static [Column] = &[
        Column::text("KIND"),
        Column::text("NAME"),
        Column::text("ACTION"),
        Column::text("OUTCOME"),
        Column::wide("ERROR"),
    ];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        let tone = if self.error.is_some() { Tone::Bad } else { Tone::Plain };
        vec![
            self.object.kind.into(),
            self.object.name.clone().into(),
            self.action.into(),
            Cell { text: self.outcome.to_owned(), tone },
            self.error.clone().unwrap_or_else(|| "-".to_owned()).into(),
        ]
    }

    fn name(&self) -> String {
        format!("{}/{}", self.object.kind, self.object.name)
    }
}

/// A step that was taken, and what is still to be waited for.
struct Taken {
    object: Object,
    action: &'static str,
    end: Result<Option<(Vm, Goal)>, Ended>,
}

/// What went wrong with an object, and was told.
struct Ended {
    exit: Exit,
    outcome: &'static str,
    why: String,
}

/// Does what the plan says; then waits for it, if that is wanted.
pub(crate) async fn carry_out(context: &Context, plan: Plan) -> (Vec<Outcome>, Vec<Exit>) {
    let mut taken = Vec::new();
    for Step { object, action, .. } in plan.steps {
        let word = action.word();
        let end = match action {
            // The plan has told it.
            Action::Cannot { exit, why, .. } => Err(Ended { exit, outcome: "refused", why: why.join("; ") }),
            action => take(context, action).await.map_err(|failure| tell(context, &object, &failure)),
        };
        taken.push(Taken { object, action: word, end });
    }
    let (mut outcomes, mut ends) = (Vec::new(), Vec::new());
    for Taken { object, action, end } in taken {
        let end = match end {
            Ok(Some((vm, goal))) => settle(context, vm, goal).await.map_err(|failure| tell(context, &object, &failure)),
            Ok(None) => Ok(()),
            Err(ended) => Err(ended),
        };
        let (exit, outcome, error) = match end {
            Ok(()) if action == Action::Unchanged.word() => (Exit::Done, "unchanged", None),
            Ok(()) => (Exit::Done, "done", None),
            Err(Ended { exit, outcome, why }) => (exit, outcome, Some(why)),
        };
        ends.push(exit);
        outcomes.push(Outcome { object, action, outcome, error });
    }
    (outcomes, ends)
}

/// Says what went wrong with an object.
fn tell(context: &Context, object: &Object, failure: &Failure) -> Ended {
    context.hint(&format!("{object}:"));
    let exit = exit::report(failure, context.terminal);
    let outcome = if exit == Exit::TimedOut { "going_on" } else { "failed" };
    Ended { exit, outcome, why: failure.to_string() }
}

async fn take(context: &Context, action: Action) -> Result<Option<(Vm, Goal)>, Failure> {
    match action {
        Action::AddVersion { wanted, image } => add(context, wanted, image).await.map(|()| None),
        Action::Create { wanted, request, .. } => create(context, &wanted, &request).await,
        Action::Change { wanted, vm, difference, told } => {
            change(context, &wanted, *vm, &difference, told.as_deref()).await
        }
        Action::Label { node, fields, update } => label(context, &node, &fields, &update).await.map(|()| None),
        Action::Delete { vm } => delete(context, *vm).await,
        Action::Unchanged | Action::Cannot { .. } => Ok(None),
    }
}

async fn add(context: &Context, wanted: WantedTemplate, image: Image) -> Result<(), Failure> {
    let (answer, phase) = match image {
        Image::File { path, sha256 } => {
            let phase = context.progress.transfer(&format!("template {}: sending {}", wanted.name, path.display()));
            let upload = context.client.upload_template(&wanted.name, sha256, &path, phase.meter());
            (wait::accepted(upload).await?, phase)
        }
        Image::Url { url, sha256 } => {
            let phase = context.progress.phase(&format!("template {}: a node downloads {url}", wanted.name));
            let request = TemplateAdd { url, sha256 };
            (wait::accepted(context.client.download_template(&wanted.name, &request)).await?, phase)
        }
    };
    let version = context.fresh(answer);
    phase.done(
        &format!("template {}", version.template),
        &format!("version {}, {}", version.version.short(), version.size),
    );
    Ok(())
}

async fn create(context: &Context, wanted: &WantedVm, request: &VmCreate) -> Result<Option<(Vm, Goal)>, Failure> {
    let mut life = 0;
    let (created, vm) = loop {
        let key = if life < LIVES { key(&("create", life, request))? } else { IdempotencyKey::random() };
        let answer = wait::accepted(context.client.create_vm(request, &key)).await;
        let created = context.fresh(answer.map_err(|failure| wanted.sources.blame(failure))?);
        // The answer to the same request of today may be about a VM that is gone since: then this is another one.
        match context.client.vm(&created.vm.name).await {
            Ok(now) if now.value.id == created.vm.id => break (created, now.value),
            Err(error) if !wait::is_missing(&error) => return Err(error.into()),
            _ if life >= LIVES => break (created.clone(), created.vm),
            _ => life += 1,
        }
    };
    context.progress.done(&format!("vm {} is on {}", vm.name, vm.node), &reasons(&created.placement));
    Ok((vm.desired == Desired::Running).then_some((vm, Goal::Running)))
}

async fn change(
    context: &Context,
    wanted: &WantedVm,
    vm: Vm,
    difference: &Difference,
    told: Option<&CloudInit>,
) -> Result<Option<(Vm, Goal)>, Failure> {
    let (id, name) = (vm.id, vm.name.clone());
    let mut vm = vm;
    if difference.update != VmUpdate::default() {
        let key = key(&("change", id, vm.generation, &difference.update))?;
        let changed = context.client.update_vm(&name, &difference.update, Some(vm.generation), &key);
        vm = context.fresh(wait::accepted(changed).await?);
    }
    if let Some(told) = told {
        let key = key(&("told", id, vm.generation, told))?;
        let saved = context.client.set_cloud_init(&name, told, CloudInitQuery::default(), vm.generation, &key);
        let saved = wait::accepted(saved).await.map_err(|failure| wanted.sources.blame(failure))?;
        vm.generation = context.fresh(saved).generation;
    }
    if let Some(running) = difference.running {
        let asked = if running {
            wait::accepted(context.client.start_vm(&name)).await?
        } else {
            wait::accepted(context.client.stop_vm(&name, None)).await?
        };
        vm = context.fresh(asked);
    }
    context.progress.done(&format!("vm {name} is changed"), &names(&difference.fields));
    let goal = match difference.running {
        Some(true) => Goal::Running,
        Some(false) => Goal::Stopped,
        None => Goal::Settled,
    };
    Ok(Some((vm, goal)))
}

async fn label(context: &Context, node: &NodeName, fields: &[Field], update: &NodeUpdate) -> Result<(), Failure> {
    context.fresh(wait::accepted(context.client.update_node(node, update)).await?);
    context.progress.done(&format!("node {node} is changed"), &names(fields));
    Ok(())
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>().join(", ")
}

async fn delete(context: &Context, vm: Vm) -> Result<Option<(Vm, Goal)>, Failure> {
    let key = key(&("delete", vm.id, vm.generation))?;
    let gone = context.client.delete_vm_at(&vm.name, vm.generation, &key);
    Ok(Some((context.fresh(wait::accepted(gone).await?), Goal::Gone)))
}

/// Waits for one of them, if that is wanted.
async fn settle(context: &Context, vm: Vm, goal: Goal) -> Result<(), Failure> {
    if !context.wait {
        context.hint(&goal.follow(&vm.name));
        return Ok(());
    }
    let phase = context.progress.phase(&format!("vm {} on {}: {}", vm.name, vm.node, goal.doing()));
    let vm = wait::until(context, vm, goal, |vm| {
        phase.doing(&format!("vm {} on {}: {}", vm.name, vm.node, vm.status.state));
    })
    .await?;
    match goal {
        Goal::Gone => phase.done(&format!("vm {} is deleted", vm.name), ""),
        Goal::Stopped => phase.done(&format!("vm {} is stopped", vm.name), ""),
        Goal::Running => phase.done(&format!("vm {} runs", vm.name), &vm.ip.to_string()),
        _ => {
            drop(phase);
            waits(context, &vm);
        }
    }
    Ok(())
}

/// The key of a request that is the same whenever the request is. Of the request only its digest goes into it.
fn key(request: &impl Serialize) -> Result<IdempotencyKey, Failure> {
    let fault = |error: String| Failure::Io { what: "the request", source: std::io::Error::other(error) };
    let json = serde_json::to_vec(request).map_err(|error| fault(error.to_string()))?;
    match format!("apply-{}", Blake3::of(&json)).parse() {
        Ok(key) => Ok(key),
        Err(error) => Err(fault(format!("{error}"))),
    }
}
