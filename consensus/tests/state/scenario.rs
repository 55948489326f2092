//! Random logs: few names, ids and keys, so that commands meet; valid and invalid ones, clocks that jump.

use crate::fixture::*;
use proptest::{collection::vec, option, prelude::*, sample::select};
use waifud_model::{
    change::VmChange,
    cloud_init::{CloudInit, Datasource, Imds},
    command::{Actor, AddNode, Command, CreateVm, Envelope, NewNode, Origin, SetCloudDefaults, SetCloudInit, VmReport},
    digest::Fingerprint,
    event::EventKind,
    ids::Generation,
    labels::{LabelPatch, Labels},
    mesh::MeshKey,
    name::{DiskName, NodeName},
    node::Capacity,
    scope::Target,
    size::ByteSize,
    template::{ImageFormat, TemplateVersion},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::{Console, Desired, ImageRef, RestartPolicy, VmSpec},
};

/// The token that is for some VMs only.
const SCOPED: u8 = 15;

/// Who gives a command: mostly somebody who may.
fn actor_of(command: &Command, node: u8, chance: u8) -> Actor {
    match (chance, command) {
        (0..3, _) => Actor::Node(node_id(node)),
        (3..5, _) => Actor::Local { node: node_id(node), uid: 0 },
        (5..10, _) => Actor::Token(token_id(4 + chance)),
        (
            _,
            Command::UpdateNode { node, .. } | Command::RotateNodeKey { node, .. } | Command::SetMeshEnd { node, .. },
        ) => Actor::Node(*node),
        (_, Command::ConfirmVmGone { .. } | Command::ReportVmEvents(_) | Command::RaiseFeatureLevel(_)) => {
            Actor::Node(node_id(node))
        }
        (20..28, command) if !matches!(command.target(), Target::Other) => Actor::Token(token_id(SCOPED)),
        (28..30, _) => Actor::Token(token_id(SCOPED)),
        (
            10..20,
            Command::CreateVm(_) | Command::SetPower { .. } | Command::ChangeVm { .. } | Command::SetCloudInit(_),
        ) => Actor::Token(token_id(11)),
        _ => local(),
    }
}

fn nodes() -> impl Strategy<Value = NewNode> {
    // Mostly of one piece, sometimes with another's name, address or key.
    (1..6_u8, option::weighted(0.1, 0..6_u8), option::weighted(0.1, 0..6_u8), option::weighted(0.1, 0..6_u8)).prop_map(
        |(n, name, address, key)| NewNode {
            name: NodeName::new(format!("node{}", name.unwrap_or(n))).unwrap(),
            advertise: ([192, 0, 2, address.unwrap_or(n)], 7777).into(),
            fingerprint: Fingerprint([key.unwrap_or(n); 32]),
            ..new_node(n)
        },
    )
}

fn capacities() -> impl Strategy<Value = Capacity> {
    (select(vec![8_u32, 16]), 2..5_u32, select(vec![2_u64, 4, 8])).prop_map(|(cpus, threads, gib)| Capacity {
        cpus,
        threads,
        memory: ByteSize::gib(gib),
        ..capacity()
    })
}

fn ends() -> impl Strategy<Value = Timestamp> {
    select(vec![0, MINUTE, HOUR, 48 * HOUR]).prop_map(|after| Timestamp(START.0 + after))
}

fn specs() -> impl Strategy<Value = VmSpec> {
    let memory = prop_oneof![20 => select(vec![512_u64, 1024, 2048]), 1 => Just(0), 1 => Just(63)];
    let disk = prop_oneof![10 => select(vec![2_u64, 5, 40]), 1 => Just(0), 1 => Just(1)];
    let image = (prop_oneof![8 => Just(0_u8), 1 => Just(1)], prop_oneof![4 => Just(0_u8), 1 => 1..3_u8]);
    let restart = select(vec![RestartPolicy::OnFailure, RestartPolicy::Always, RestartPolicy::Never]);
    let labels = prop_oneof![
        4 => Just(spec().labels),
        1 => Just(Labels::default()),
        1 => Just(labels(&[("env", "test"), ("tier", "web")])),
        1 => Just(labels(&[("env", "prod"), ("tier", "web")])),
    ];
    (prop_oneof![1 => Just(0_u32), 20 => 1..6_u32], memory, disk, image, restart, any::<bool>(), labels).prop_map(
        |(cpus, mib, gib, (t, v), restart, data, labels)| VmSpec {
            cpus,
            memory: ByteSize::mib(mib),
            disk: ByteSize::gib(gib),
            image: ImageRef { template: template(t), version: version(v) },
            restart,
            labels,
            cloud_init: if data { spec().cloud_init } else { CloudInit::default() },
            ..spec()
        },
    )
}

fn wishes() -> impl Strategy<Value = Desired> {
    select(vec![Desired::Running, Desired::Stopped, Desired::Paused])
}

fn graces() -> impl Strategy<Value = Option<u32>> {
    option::of(select(vec![0_u32, 60]))
}

fn changes() -> impl Strategy<Value = VmChange> {
    let sizes = (
        option::weighted(0.4, 0..6_u32),
        option::weighted(0.3, select(vec![512_u64, 2048, 4096, 63])),
        option::weighted(0.2, option::of(select(vec![64_u64, 2048, 8192]))),
        option::weighted(0.3, select(vec![1_u64, 10, 12, 60])),
    );
    let disk = (select(vec!["a", "b", "c"]), option::weighted(0.7, select(vec![0_u64, 1, 2, 30])));
    let cd = option::weighted(0.2, option::of((0..2_u8, 0..3_u8)));
    (sizes, option::weighted(0.2, any::<bool>()), vec(disk, 0..3), cd, any::<bool>()).prop_map(
        |((cpus, memory, memory_max, disk), protected, disks, cd, labels)| VmChange {
            cpus,
            memory: memory.map(ByteSize::mib),
            memory_max: memory_max.map(|most| most.map(ByteSize::mib)).into(),
            disk: disk.map(ByteSize::gib),
            protected,
            labels: if labels { label_patch() } else { LabelPatch::default() },
            disks: disks
                .into_iter()
                .map(|(name, gib)| (DiskName::new(name).unwrap(), gib.map(ByteSize::gib)))
                .collect(),
            cd: cd.map(|cd| cd.map(|(t, v)| ImageRef { template: template(t), version: version(v) })).into(),
            ..VmChange::default()
        },
    )
}

fn generations() -> impl Strategy<Value = Option<Generation>> {
    option::weighted(0.3, (1..4_u64).prop_map(Generation))
}

fn reports() -> impl Strategy<Value = VmReport> {
    let kinds = prop_oneof![
        8 => Just(EventKind::Stopped),
        4 => select(vec![EventKind::Started, EventKind::Crashed, EventKind::Failed]),
        1 => select(vec![EventKind::Created, EventKind::Deleted, EventKind::Opened]),
    ];
    (0..6_u8, kinds, 1..4_u64, any::<bool>(), option::of(Just("ä".repeat(700)))).prop_map(
        |(vm, kind, generation, by_guest, detail)| VmReport { detail, ..report(vm, kind, generation, by_guest) },
    )
}

fn commands() -> impl Strategy<Value = Command> {
    let vm = || (0..6_u8).prop_map(vm_id);
    let node = || (0..5_u8).prop_map(node_id);
    // Seldom the first, whose people give most of the commands.
    let removed = prop_oneof![1 => Just(node_id(0)), 8 => (1..5_u8).prop_map(node_id)];
    let token = || (9..15_u8).prop_map(token_id);
    let creates = (0..6_u8, 0..6_u8, 0..4_u8, specs(), wishes()).prop_map(|(id, name, node, spec, desired)| {
        Command::CreateVm(Box::new(CreateVm { id: vm_id(id), name: vm_name(name), node: node_id(node), spec, desired }))
    });
    let templates = (0..2_u8, 0..3_u8, 0..5_u8).prop_map(|(t, v, origin)| {
        let format = if v == 2 { ImageFormat::Iso } else { ImageFormat::Qcow2 };
        Command::AddTemplateVersion(Box::new(TemplateVersion {
            origin: node_id(origin),
            format,
            ..template_version(t, v)
        }))
    });
    let api = (
        9..15_u8,
        select(vec![Role::Viewer, Role::Operator, Role::Admin]),
        option::of(ends()),
        option::weighted(0.3, Just(scope())),
    );
    let adds = (nodes(), prop_oneof![5 => Just(100), 1 => 9..15_u8])
        .prop_map(|(node, token)| Command::AddNode(Box::new(AddNode { node, token: token_id(token) })));
    let told = (0..3_u8, any::<bool>(), 0..3_usize).prop_map(|(n, config, datasource)| CloudInit {
        user_data: (n > 0).then(|| secret(&format!("#!/bin/sh\necho hunter2 {n}\n"))),
        network_config: config.then(|| secret("version: 2\n")),
        ssh_keys: vec![if n == 2 { String::new() } else { format!("ssh-ed25519 {n}") }],
        datasource: Datasource::ALL[datasource].0,
        imds: Imds::ALL[usize::from(config)].0,
    });
    let cloud_inits = (vm(), told, any::<bool>(), generations()).prop_map(|(vm, cloud_init, rerun, expect)| {
        Command::SetCloudInit(Box::new(SetCloudInit { vm, cloud_init, rerun, expect }))
    });
    let defaults = (any::<bool>(), any::<bool>(), option::weighted(0.3, (0..3_u64).prop_map(Generation)));
    prop_oneof![
        20 => creates,
        6 => cloud_inits,
        2 => defaults.prop_map(|(user, vendor, expect)| Command::SetCloudDefaults(Box::new(SetCloudDefaults {
            user_data: user.then(|| secret("#cloud-config\n")),
            vendor_data: vendor.then(|| secret("#cloud-config\npackages: [hunter2]\n")),
            expect,
        }))),
        3 => (node(), 0..6_u8).prop_map(|(node, n)| Command::SetMeshEnd { node, end: mesh_end(n) }),
        3 => (0..4_u8, 0..8_u8).prop_map(|(n, key)| Command::AddNetPeer { name: peer_name(n), key: MeshKey([key; 32]) }),
        1 => (0..4_u8).prop_map(|n| Command::RemoveNetPeer(peer_name(n))),
        8 => (vm(), wishes(), graces(), generations())
            .prop_map(|(vm, desired, grace, expect)| Command::SetPower { vm, desired, grace, expect }),
        3 => (vm(), graces(), generations()).prop_map(|(vm, grace, expect)| Command::RebootVm { vm, grace, expect }),
        8 => (vm(), changes(), generations())
            .prop_map(|(vm, change, expect)| Command::ChangeVm { vm, change: Box::new(change), expect }),
        3 => (vm(), 0..6_u8, generations()).prop_map(|(vm, n, expect)| Command::RenameVm { vm, name: vm_name(n), expect }),
        3 => (vm(), 0..2_u8, 0..3_u8, generations()).prop_map(|(vm, t, v, expect)| {
            Command::ReinitVm { vm, image: ImageRef { template: template(t), version: version(v) }, expect }
        }),
        1 => node().prop_map(|node| Command::SetNodeLabels { node, labels: label_patch() }),
        8 => (vm(), generations()).prop_map(|(vm, expect)| Command::DeleteVm { vm, expect }),
        5 => vm().prop_map(|vm| Command::ConfirmVmGone { vm }),
        2 => (vm(), select(vec![Console::Serial, Console::SerialReadOnly, Console::Screen]))
            .prop_map(|(vm, console)| Command::OpenConsole { vm, console }),
        4 => vec(reports(), 0..4).prop_map(Command::ReportVmEvents),
        3 => templates,
        2 => (0..2_u8, option::of(0..3_u8)).prop_map(|(t, v)| Command::DeleteTemplate { template: template(t), version: v.map(version) }),
        4 => adds,
        2 => (node(), 0..5_u8, capacities()).prop_map(|(node, n, capacity)| {
            Command::UpdateNode { node, advertise: ([192, 0, 2, n], 7777).into(), capacity }
        }),
        1 => (node(), 0..6_u8).prop_map(|(node, n)| Command::RotateNodeKey { node, fingerprint: Fingerprint([n; 32]) }),
        2 => (node(), any::<bool>()).prop_map(|(node, cordoned)| Command::SetCordon { node, cordoned }),
        2 => (removed, any::<bool>()).prop_map(|(node, force)| Command::RemoveNode { node, force }),
        2 => (9..15_u8, 0..3_u32, ends()).prop_map(|(n, uses_left, expires_at)| {
            Command::CreateJoinToken(JoinToken { uses_left, expires_at, ..join_token(n) })
        }),
        1 => token().prop_map(Command::RevokeJoinToken),
        2 => api.prop_map(|(n, role, expires_at, scope)| {
            let scope = scope.unwrap_or_default();
            Command::CreateApiToken(Box::new(ApiToken { expires_at, scope, ..api_token(n, role) }))
        }),
        1 => token().prop_map(Command::RevokeApiToken),
        1 => select(vec![0_u32, 1, 3, u32::MAX]).prop_map(Command::RaiseFeatureLevel),
        1 => Just(init()),
    ]
}

/// What a log begins with.
#[derive(Debug, Clone, Copy)]
enum Beginning {
    Nothing,
    Cluster(u8),
    /// One of its nodes has one address and four CPUs left.
    Crowded,
}

fn beginning(beginning: Beginning) -> Vec<Command> {
    let small = |n| {
        let spec = VmSpec { cpus: 1, memory: ByteSize::mib(64), disk: ByteSize::gib(2), ..spec() };
        Command::CreateVm(Box::new(CreateVm { spec, ..vm(n, 1) }))
    };
    let founding = |nodes| founding(nodes).into_iter().chain([scoped_token(SCOPED, Role::Operator)]);
    match beginning {
        Beginning::Nothing => Vec::new(),
        Beginning::Cluster(nodes) => founding(nodes).chain((0..3).map(|n| create(n, 0))).collect(),
        Beginning::Crowded => founding(2).chain((20..32).map(small)).collect(),
    }
}

/// A log; most begin with a cluster that works.
pub(crate) fn logs() -> impl Strategy<Value = Vec<Envelope>> {
    let key = option::weighted(0.1, 0..5_u8);
    let steps = prop_oneof![30 => 0..1000_u64, 2 => Just(11 * MINUTE), 1 => Just(25 * HOUR)];
    let back = option::weighted(0.1, 0..HOUR);
    let free = vec((commands(), 0..4_u8, 0..60_u8, key, any::<bool>(), steps, back), 1..90);
    let beginnings = prop_oneof![
        1 => Just(Beginning::Nothing),
        6 => (1..4_u8).prop_map(Beginning::Cluster),
        3 => Just(Beginning::Crowded),
    ];
    (beginnings, free).prop_map(|(start, free)| {
        let first = |(n, command)| envelope(local(), &format!("first-{n}"), START, command);
        let mut log: Vec<Envelope> = beginning(start).into_iter().enumerate().map(first).collect();
        let mut at = START;
        for (command, node, chance, key, internal, step, back) in free {
            at = Timestamp(at.0 + step);
            let stamp = Timestamp(at.0.saturating_sub(back.unwrap_or(0)));
            let key = key.map_or_else(|| format!("own-{}", log.len()), |key| format!("shared-{key}"));
            let actor = actor_of(&command, node, chance);
            let mut envelope = self::envelope(actor, &key, stamp, command);
            if internal {
                envelope.request.origin = Origin::Internal;
            }
            // A client that tries again sends the same once more, later.
            if let Some(again) = log.last().filter(|_| step % 7 == 0).cloned() {
                log.push(Envelope { at: stamp, ..again });
            }
            // Mostly whoever owns it has soon removed what is to be deleted; the other nodes have nothing to say.
            let deleted = match envelope.command {
                Command::DeleteVm { vm, .. } if chance >= 20 => Some(vm),
                _ => None,
            };
            log.push(envelope);
            for (node, vm) in (0..3).filter_map(|node| deleted.map(|vm| (node, vm))) {
                let key = format!("own-{}", log.len());
                log.push(self::envelope(Actor::Node(node_id(node)), &key, stamp, Command::ConfirmVmGone { vm }));
            }
        }
        log
    })
}
