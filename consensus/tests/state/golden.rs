//! Pinned encodings: what is in a log or in a state today must read the same in every later build.
//!
//! `UPDATE_EXPECT=1` writes the goldens anew. Before the first release that is allowed; after it a line that changes is a
//! log that can no longer be replayed.

use crate::fixture::*;
use expect_test::{expect, expect_file};
use waifud_model::{
    cloud_init::{CloudInit, Datasource, Imds},
    command::{Actor, Command, Envelope, Origin, SetCloudDefaults, SetCloudInit},
    digest::Fingerprint,
    event::EventKind,
    ids::Generation,
    mesh::MeshKey,
    time::Timestamp,
    token::Role,
    vm::{Console, Desired},
};

/// The name of each variant. Without a wildcard, so that a new one cannot be left out of the goldens.
fn name(command: &Command) -> &'static str {
    match command {
        Command::InitCluster(_) => "InitCluster",
        Command::AddNode(_) => "AddNode",
        Command::UpdateNode { .. } => "UpdateNode",
        Command::RotateNodeKey { .. } => "RotateNodeKey",
        Command::SetMeshEnd { .. } => "SetMeshEnd",
        Command::SetCloudInit(_) => "SetCloudInit",
        Command::SetCloudDefaults(_) => "SetCloudDefaults",
        Command::AddNetPeer { .. } => "AddNetPeer",
        Command::RemoveNetPeer(_) => "RemoveNetPeer",
        Command::SetCordon { .. } => "SetCordon",
        Command::RemoveNode { .. } => "RemoveNode",
        Command::CreateJoinToken(_) => "CreateJoinToken",
        Command::RevokeJoinToken(_) => "RevokeJoinToken",
        Command::CreateApiToken(_) => "CreateApiToken",
        Command::RevokeApiToken(_) => "RevokeApiToken",
        Command::CreateVm(_) => "CreateVm",
        Command::SetPower { .. } => "SetPower",
        Command::RebootVm { .. } => "RebootVm",
        Command::ChangeVm { .. } => "ChangeVm",
        Command::RenameVm { .. } => "RenameVm",
        Command::ReinitVm { .. } => "ReinitVm",
        Command::SetNodeLabels { .. } => "SetNodeLabels",
        Command::DeleteVm { .. } => "DeleteVm",
        Command::ConfirmVmGone { .. } => "ConfirmVmGone",
        Command::OpenConsole { .. } => "OpenConsole",
        Command::AddTemplateVersion(_) => "AddTemplateVersion",
        Command::DeleteTemplate { .. } => "DeleteTemplate",
        Command::ReportVmEvents(_) => "ReportVmEvents",
        Command::RaiseFeatureLevel(_) => "RaiseFeatureLevel",
    }
}

/// One command of each variant, in the order of their definition, and a second form of one: a log that is accepted as a whole
/// but for the feature level.
fn one_of_each() -> Vec<(Actor, Command)> {
    let (node, vm) = (node_id(0), vm_id(0));
    let own = Actor::Node(node);
    let report = waifud_model::command::VmReport {
        detail: Some("qemu exited".to_owned()),
        ..report(0, EventKind::Crashed, 1, false)
    };
    vec![
        (local(), init()),
        (local(), Command::CreateJoinToken(join_token(1))),
        (own.clone(), add_node(1, 1)),
        (
            own.clone(),
            Command::UpdateNode { node, advertise: "[2001:db8::1]:7777".parse().unwrap(), capacity: capacity() },
        ),
        (own.clone(), Command::RotateNodeKey { node, fingerprint: Fingerprint([200; 32]) }),
        (own.clone(), Command::SetMeshEnd { node, end: mesh_end(1) }),
        (local(), Command::SetCordon { node, cordoned: false }),
        (local(), Command::RevokeJoinToken(token_id(1))),
        (local(), Command::CreateApiToken(Box::new(api_token(2, Role::Operator)))),
        (Actor::Token(token_id(2)), Command::AddTemplateVersion(Box::new(template_version(0, 0)))),
        (Actor::Token(token_id(2)), create(0, 0)),
        (local(), Command::RevokeApiToken(token_id(2))),
        (own.clone(), Command::ReportVmEvents(vec![report])),
        (local(), Command::RebootVm { vm, grace: Some(5), expect: Some(Generation(1)) }),
        (local(), Command::SetPower { vm, desired: Desired::Stopped, grace: Some(0), expect: Some(Generation(2)) }),
        (local(), Command::ChangeVm { vm, change: Box::new(vm_change()), expect: None }),
        (local(), Command::RenameVm { vm, name: vm_name(9), expect: None }),
        (local(), Command::ReinitVm { vm, image: spec().image, expect: None }),
        (local(), Command::SetNodeLabels { node, labels: label_patch() }),
        (local(), Command::SetCloudInit(Box::new(set_cloud_init()))),
        (local(), Command::SetCloudDefaults(Box::new(set_cloud_defaults()))),
        (local(), Command::AddNetPeer { name: peer_name(1), key: MeshKey([9; 32]) }),
        (local(), Command::RemoveNetPeer(peer_name(1))),
        (local(), Command::DeleteVm { vm, expect: None }),
        (own.clone(), Command::ConfirmVmGone { vm }),
        (local(), Command::DeleteTemplate { template: template(0), version: Some(version(0)) }),
        (local(), Command::RemoveNode { node: node_id(1), force: true }),
        (own, Command::RaiseFeatureLevel(1)),
        // With a field that most leave out.
        (local(), scoped_token(3, Role::Operator)),
        // What came later, behind what it needs: the lines above keep their keys and times.
        (local(), Command::AddTemplateVersion(Box::new(template_version(0, 0)))),
        (local(), create(1, 0)),
        (local(), Command::OpenConsole { vm: vm_id(1), console: Console::SerialReadOnly }),
    ]
}

fn set_cloud_init() -> SetCloudInit {
    let cloud_init = CloudInit {
        user_data: Some(secret("#!/bin/sh\n")),
        network_config: None,
        ssh_keys: vec!["ssh-ed25519 AAAA me".to_owned()],
        datasource: Datasource::Ec2,
        imds: Imds::V2,
    };
    SetCloudInit { vm: vm_id(0), cloud_init, rerun: true, expect: None }
}

fn set_cloud_defaults() -> SetCloudDefaults {
    let vendor_data = Some(secret("#cloud-config\n"));
    SetCloudDefaults { user_data: None, vendor_data, expect: Some(Generation(0)) }
}

fn envelopes() -> Vec<Envelope> {
    let numbered = one_of_each().into_iter().enumerate();
    let mut envelopes: Vec<Envelope> = numbered
        .map(|(n, (actor, command))| envelope(actor, &format!("key-{n}"), Timestamp(START.0 + n as u64), command))
        .collect();
    for envelope in &mut envelopes {
        // Debug output is no encoding: it may change, and with it what the fixture takes for a body's hash.
        envelope.request.body = waifud_model::digest::Blake3([0xb0; 32]);
        if matches!(envelope.actor, Actor::Node(_)) {
            envelope.request.origin = Origin::Internal;
        }
    }
    envelopes
}

#[test]
fn log_entries_keep_their_bytes() {
    let envelopes = envelopes();
    let names: std::collections::BTreeSet<&str> = envelopes.iter().map(|e| name(&e.command)).collect();
    assert_eq!(names.len(), 29, "a variant is missing: {names:?}");
    let mut lines = String::new();
    for envelope in &envelopes {
        let bytes = rmp_serde::to_vec_named(envelope).unwrap();
        assert_eq!(rmp_serde::from_slice::<Envelope>(&bytes).unwrap(), *envelope);
        lines += &format!("{} {}\n", name(&envelope.command), hex(&bytes));
    }
    expect_file!["golden/envelopes.txt"].assert_eq(&lines);
}

/// Catches whatever changes the rows: another encoding, another order, another rule.
#[test]
fn states_keep_their_digest() {
    let mut bench = Bench::empty();
    let outcomes: Vec<bool> = envelopes().iter().map(|envelope| bench.apply(envelope).unwrap().is_ok()).collect();
    assert_eq!(outcomes.iter().filter(|accepted| !**accepted).count(), 1, "{outcomes:?}");
    expect!["098b38050074d376c1758ca45296f08d13df691352d3d9c256abfa1952b1e971"]
        .assert_eq(&bench.view().digest().unwrap().to_string());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
