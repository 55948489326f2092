//! A new VM: template resolved, node chosen, id minted, proposed; and chosen again when another request took the room in
//! between.
//!
//! ```text
//!   request ──> documents checked ──> plan (what it is) ──> place (where) ──> CreateVm ──┬─> Vm
//!                                      ^                           │
//!                                      └── no room any more, or ───┘
//!                                          a made-up name is taken
//! ```

use super::{
    documents,
    place::{self, Field},
    propose::{self, Author, Done},
    vm_change::within,
};
use crate::{
    app::App,
    ports::{Observed, Random, draw},
    problem::Failure,
    view,
};
use rand::{SeedableRng, rngs::StdRng};
use waifud_api::vm::{Placement, PlacementPreview, TemplateRef, VmCreate, VmCreated};
use waifud_model::{
    change,
    cloud_init::CloudInit,
    command::{Command, CreateVm, Reply},
    hardware::{DISKS_MAX, DataDisk, Hardware},
    ids::{Generation, NodeId, VmId},
    labels::Labels,
    name::VmName,
    placement::{self, Decision, Spread, place},
    reject::Reject,
    scope::Scope,
    template::{ImageFormat, TemplateVersion},
    vm::{Desired, ImageRef, Vm, VmSpec},
};

/// How often a node is chosen, or a name made up, before the refusal is told. Each try that is refused has been settled by
/// the log and seen here, so a second one is rarely needed; the limit only ends an unlucky race.
const TRIES: usize = 4;

/// Makes a VM.
pub(crate) async fn run(app: &App, author: &Author, request: VmCreate) -> Result<Done<VmCreated>, Failure> {
    let warnings = documents::of_vm(&told(&request))?;
    within(&author.scope, &request.labels)?;
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let observed = app.observed();
        let (plan, decision) = match decide(app, &observed, &request).await {
            Ok(decided) => decided,
            Err(failure) => {
                let done = propose::expect(author.replay_or(&app.consensus, failure).await?, vm_of)?;
                return replayed(app, done, &observed, warnings).await;
            }
        };
        let command = Command::CreateVm(Box::new(create(app, &request, plan.spec, decision.node)?));
        match author.try_propose(&app.consensus, command).await? {
            Ok(committed) => {
                let done = propose::expect(committed, vm_of)?;
                if done.replayed {
                    return replayed(app, done, &observed, warnings).await;
                }
                let placement = place::wire(&decision);
                return Ok(done.map(|vm| VmCreated {
                    vm: view::vm(&vm, decision.name, &observed),
                    placement,
                    warnings,
                }));
            }
            Err(reject) if tries > 0 && another_try_helps(&request, &reject) => {}
            Err(reject) => return Err(propose::rejected(&app.consensus, &author.scope, reject).await),
        }
    }
}

/// Only says where [`run`] would make it.
pub(crate) async fn preview(app: &App, scope: &Scope, request: VmCreate) -> Result<PlacementPreview, Failure> {
    let warnings = documents::of_vm(&told(&request))?;
    within(scope, &request.labels)?;
    let (plan, decision) = decide(app, &app.observed(), &request).await?;
    let ImageRef { template, version } = plan.spec.image.clone();
    let disk = plan.spec.disk;
    let create = create(app, &request, plan.spec, decision.node)?;
    if let Err(reject) = app.consensus.read(move |view| view.try_create(&create)).await? {
        return Err(propose::rejected(&app.consensus, scope, reject).await);
    }
    Ok(PlacementPreview {
        placement: place::wire(&decision),
        template: TemplateRef { name: template, version },
        disk,
        warnings,
    })
}

/// The command that makes it.
fn create(app: &App, request: &VmCreate, spec: VmSpec, node: NodeId) -> Result<CreateVm, Failure> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => made_up(app.random.as_ref())?,
    };
    Ok(CreateVm {
        id: VmId::from_random(draw(app.random.as_ref())),
        name,
        node,
        spec,
        desired: if request.start { Desired::Running } else { Desired::Stopped },
    })
}

/// What is to be made, and where.
async fn decide(app: &App, observed: &Observed, request: &VmCreate) -> Result<(Plan, Decision), Failure> {
    let (selector, cd) = (request.template.clone(), request.cd.clone());
    let (version, cd, field) = app
        .consensus
        .read(move |view| {
            let cd = cd.map(|cd| view::resolve_template(view, &cd)).transpose()?;
            Ok((view::resolve_template(view, &selector)?, cd, Field::read(view)?))
        })
        .await?;
    let version = version?;
    let plan = plan(request, &version, cd.transpose()?.as_ref())?;
    let candidates = field.candidates(app.node, observed, version.version);
    let decision = place(&plan.placement, &candidates).map_err(Failure::Refused)?;
    Ok((plan, decision))
}

/// What is to be made, and what placement must know of it.
struct Plan {
    spec: VmSpec,
    placement: placement::Request,
}

fn plan(request: &VmCreate, version: &TemplateVersion, cd: Option<&TemplateVersion>) -> Result<Plan, Failure> {
    let image = image_of(version);
    let disk = request.disk.unwrap_or_else(|| VmCreate::default_disk().max(version.least_disk()));
    // A VM made from an installer has it in its drive.
    let cd = cd.or((version.format == ImageFormat::Iso).then_some(version));
    let mut hardware = Hardware {
        firmware: request.firmware,
        cpu_model: request.cpu_model.clone(),
        memory_max: request.memory_max,
        disks: Vec::new(),
        cd: cd.map(image_of),
        bridges: request.bridges.clone(),
    };
    for (name, size) in &request.disks {
        let Some(slot) = hardware.free_slot() else {
            let why = format!("{} given; at most {DISKS_MAX}", request.disks.len());
            return Err(Failure::rejected(Reject::BadSpec { field: "disks".to_owned(), why }));
        };
        hardware.disks.push(DataDisk { name: name.clone(), slot, size: *size, born: Generation::FIRST });
    }
    let spec = VmSpec {
        cpus: request.cpus,
        memory: request.memory,
        disk,
        image,
        cloud_init: told(request),
        labels: request.labels.clone(),
        restart: request.restart,
        description: request.description.clone(),
        protected: request.protected,
        autostart: request.autostart,
        hardware,
    };
    change::check(&spec).map_err(Failure::rejected)?;
    let placement = placement::Request {
        cpus: spec.cpus,
        memory: spec.memory_promised(),
        disk: spec.disk_promised(),
        arch: None,
        pin: request.node.clone(),
        node_labels: Labels::default(),
        bridges: spec.hardware.bridges.clone(),
        spread: Spread::Prefer,
    };
    Ok(Plan { spec, placement })
}

pub(super) fn image_of(version: &TemplateVersion) -> ImageRef {
    ImageRef { template: version.template.clone(), version: version.version }
}

fn told(request: &VmCreate) -> CloudInit {
    CloudInit {
        user_data: request.user_data.clone().map(|data| data.0),
        network_config: request.network_config.clone().map(|data| data.0),
        ssh_keys: request.ssh_keys.clone(),
        datasource: request.datasource,
        imds: request.imds,
    }
}

/// Another node may have room, another name may be free; everything else is as wrong the next time.
fn another_try_helps(request: &VmCreate, reject: &Reject) -> bool {
    match reject {
        Reject::DoesNotFit { .. } | Reject::NoAddress(_) | Reject::Cordoned(_) | Reject::NoSuchNode(_) => {
            request.node.is_none()
        }
        Reject::VmNameTaken { .. } => request.name.is_none(),
        _ => false,
    }
}

fn made_up(random: &dyn Random) -> Result<VmName, Failure> {
    let mut name = String::new();
    let words = petname::Petnames::default();
    words.namer(2, "-").generate_into(&mut name, &mut StdRng::from_seed(draw(random)));
    VmName::new(name).map_err(|_| Failure::Internal("the word list made a name that is none"))
}

fn vm_of(reply: Reply) -> Option<Vm> {
    match reply {
        Reply::Vm(vm) => Some(*vm),
        _ => None,
    }
}

/// The answer to a repetition: the VM that the first request made, wherever that one put it.
async fn replayed(
    app: &App,
    done: Done<Vm>,
    observed: &Observed,
    warnings: Vec<String>,
) -> Result<Done<VmCreated>, Failure> {
    let owner = done.value.node;
    let node = app.consensus.read(move |view| view.node(owner)).await?;
    let node = node.ok_or(Failure::Internal("a VM's owner is no node"))?.name;
    let reason = "placed by an earlier request with the same key".to_owned();
    let placement = Placement { node: node.clone(), reason, rejected: Vec::new() };
    Ok(done.map(|vm| VmCreated { vm: view::vm(&vm, node, observed), placement, warnings }))
}
