//! What differs, field by field.

use super::*;
use crate::{apply::read, views::vm::tests::vm};
use expect_test::{Expect, expect};
use waifud_model::cloud_init::Imds;

/// The document of a VM, with these lines.
pub(crate) fn document(lines: &str) -> VmDocument {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, format!("kind: vm\nname: web-1\n{lines}")).unwrap();
    let mut wanted = read::read(&[file]).map_err(|faults| format!("{}", faults[0])).unwrap();
    wanted.vms.remove(0).document
}

/// A VM with everything that can be taken away.
pub(crate) fn laden() -> Vm {
    let mut vm = vm();
    vm.hardware.disks = [("data", 20), ("old", 5)].map(|(n, g)| (n.parse().unwrap(), ByteSize::gib(g))).into();
    vm.hardware.memory_max = Some(ByteSize::gib(8));
    vm.hardware.cd = Some(TemplateRef { name: "iso".parse().unwrap(), version: vm.template.version });
    vm.hardware.bridges = vec!["br0".parse().unwrap()];
    vm.description = "shop\nfront".to_owned();
    vm
}

fn check(vm: &Vm, lines: &str, expected: Expect) {
    let Difference { fields, update, told, running, lost, cannot, notes } = compare(&document(lines), vm);
    let mut text = String::new();
    for Field { field, old, new, takes } in fields {
        let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        text += &format!("{field}: {} → {} {takes:?}\n", value(old), value(new));
    }
    text += &format!("PATCH {}\n", serde_json::to_string(&update).unwrap());
    text += &format!("told {told}, running {running:?}, lost {lost:?}\n");
    cannot.iter().for_each(|why| text += &format!("cannot {why}\n"));
    notes.iter().for_each(|note| text += &format!("note {note}\n"));
    expected.assert_eq(&text);
}

#[test]
fn what_is_not_named_is_left_alone() {
    let difference = compare(&document("template: debian-12\n"), &laden());
    assert_eq!(difference, Difference::default());
}

#[test]
fn every_field_that_differs_is_named() {
    check(
        &laden(),
        "template: debian-12@9f3c21\nrunning: false\ncpus: 4\nmemory: 6G\nmemory_max: 12G\ndisk: 30G\n\
         disks: {data: 40G, old: 5G, new: 1G}\ncd: other\nbridges: [br1]\nfirmware: uefi\ncpu_model: Skylake-Server\n\
         labels: {env: test, tier: front}\ndescription: x\nprotected: true\nautostart: false\nrestart: always\n\
         ssh_keys: [ssh-rsa A]\nuser_data: {packages: [vim]}\nnetwork_config: \"version: 2\\n\"\ndatasource: ec2\nimds: any\n",
        expect![[r#"
            cpus: 2 → 4 Some(LiveOrNextStart)
            memory: 4 GiB → 6 GiB Some(LiveOrNextStart)
            memory_max: 8 GiB → 12 GiB Some(NextStart)
            disk: 10 GiB → 30 GiB Some(LiveOrNextStart)
            disks.data: 20 GiB → 40 GiB Some(LiveOrNextStart)
            disks.new: - → 1 GiB Some(LiveOrNextStart)
            cd: iso@9f3c21ab01cd → other Some(LiveOrNextStart)
            bridges: br0 → br1 Some(LiveOrNextStart)
            firmware: bios → uefi Some(NextStart)
            cpu_model: host → Skylake-Server Some(NextStart)
            labels.env: prod → test Some(AtOnce)
            labels.tier: - → front Some(AtOnce)
            labels.team: a,b → - Some(AtOnce)
            description: shop
            front → x Some(AtOnce)
            protected: false → true Some(AtOnce)
            autostart: true → false Some(AtOnce)
            restart: on_failure → always Some(AtOnce)
            ssh_keys: 2 keys → 1 keys Some(NextStart)
            user_data: 120 bytes, BLAKE3 000000000000 → 32 bytes, BLAKE3 eb4a36debb6f Some(NextStart)
            network_config: 42 bytes, BLAKE3 000000000000 → 11 bytes, BLAKE3 5e75bc44b4ba Some(NextStart)
            datasource: no_cloud → ec2 Some(NextStart)
            imds: v2 → any Some(NextStart)
            running: true → false Some(AtOnce)
            PATCH {"cpus":4,"memory":6442450944,"memory_max":12884901888,"disk":32212254720,"labels":{"env":"test","team":null,"tier":"front"},"description":"x","protected":true,"autostart":false,"restart":"always","firmware":"uefi","cpu_model":"Skylake-Server","disks":{"data":42949672960,"new":1073741824},"cd":"other","bridges":["br1"]}
            told true, running Some(false), lost []
        "#]],
    );
}

#[test]
fn what_is_empty_is_taken_away() {
    check(
        &laden(),
        "template: debian-12\nmemory_max: null\ndisks: {}\ncd: null\nbridges: []\nlabels: {}\ndescription: ''\n\
         ssh_keys: []\nuser_data: null\nnetwork_config: null\n",
        expect![[r#"
            memory_max: 8 GiB → - Some(NextStart)
            disks.data: 20 GiB → - Some(LiveOrNextStart)
            disks.old: 5 GiB → - Some(LiveOrNextStart)
            cd: iso@9f3c21ab01cd → - Some(LiveOrNextStart)
            bridges: br0 → - Some(LiveOrNextStart)
            labels.env: prod → - Some(AtOnce)
            labels.team: a,b → - Some(AtOnce)
            description: shop
            front → - Some(AtOnce)
            ssh_keys: 2 keys → - Some(NextStart)
            user_data: 120 bytes, BLAKE3 000000000000 → - Some(NextStart)
            network_config: 42 bytes, BLAKE3 000000000000 → - Some(NextStart)
            PATCH {"memory_max":null,"labels":{"env":null,"team":null},"description":"","disks":{"data":null,"old":null},"cd":null,"bridges":[]}
            told true, running None, lost [("data", 20 GiB), ("old", 5 GiB)]
        "#]],
    );
}

#[test]
fn some_things_cannot_be_changed() {
    let mut stopped = laden();
    stopped.status.state = VmState::Stopped;
    check(
        &stopped,
        "template: ubuntu-24.04\nnode: n1\ndisk: 1G\ndisks: {data: 1G, old: 6G}\n",
        expect![[r#"
            disks.old: 5 GiB → 6 GiB None
            PATCH {"disks":{"old":6442450944}}
            told false, running None, lost []
            cannot template: it was made from debian-12@9f3c21ab01cd, not from ubuntu-24.04; waifuctl reinit web-1 -t ubuntu-24.04 makes it anew (what is on its root disk is lost)
            cannot disk: it has 10G, and disks never shrink to 1G; write 10G
            cannot disks.data: it has 20G, and disks never shrink to 1G; write 20G
            note node: it is on n2; n1 counted only when it was made
        "#]],
    );
    let mut leaving = laden();
    leaving.phase = Phase::Deleting;
    check(
        &leaving,
        "template: debian-12\ncpus: 7\n",
        expect![[r#"
        PATCH {}
        told false, running None, lost []
        cannot it is being deleted; apply again when it is gone
    "#]],
    );
}

#[test]
fn a_new_vm_is_as_described_and_else_as_by_default() {
    let request = create(&document("template: debian-12\n"));
    let mut expected = VmCreate::from_template("debian-12".parse().unwrap());
    expected.name = Some("web-1".parse().unwrap());
    assert_eq!(request, expected);
    let request =
        create(&document("template: t\nrunning: false\nprotected: true\nmemory_max: 2G\ncd: iso\ndisks: {a: 1G}\n"));
    assert_eq!((request.start, request.protected, request.memory_max), (false, true, Some(ByteSize::gib(2))));
    assert_eq!((request.disks.len(), request.cd.unwrap().to_string().as_str()), (1, "iso"));
}

#[test]
fn what_a_guest_is_told_is_kept_where_it_is_not_named() {
    let data = |text: &str| UserDataIn::new(text.as_bytes().to_vec()).unwrap();
    let now = CloudInit {
        user_data: Some(data("#cloud-config\n")),
        network_config: Some(data("version: 2\n")),
        ssh_keys: vec!["ssh-rsa A".to_owned()],
        ..CloudInit::default()
    };
    let told = told(&document("template: t\nuser_data: \"#!/bin/sh\\n\"\nimds: v2\n"), now.clone());
    assert_eq!(told, CloudInit { user_data: Some(data("#!/bin/sh\n")), imds: Imds::V2, ..now });
}
