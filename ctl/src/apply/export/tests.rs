//! What is exported changes nothing where it came from.

use super::*;
use crate::{
    apply::{compare, compare::Difference, read},
    views::{node::tests::node as sample_node, vm::tests::vm as sample},
};
use expect_test::expect;
use proptest::prelude::*;
use waifud_api::user_data::{UserDataIn, UserDataInfo};
use waifud_model::{
    cloud_init::UserData,
    digest::{Blake3, Sha256},
    hardware::Firmware,
    labels::Labels,
    size::ByteSize,
};

/// Labels and names of people, and what YAML and TOML trip over.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        "[a-zäöü ]{0,9}",
        Just("yes".to_owned()),
        Just("0644".to_owned()),
        Just("~".to_owned()),
        Just("1e3".to_owned()),
        Just("- a: b #c".to_owned())
    ]
}

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[a-z][a-z0-9./_-]{0,9}", word(), 0..4)
        .prop_filter_map("labels", |map| Labels::try_from(map).ok())
}

/// A VM and what its guest is told.
fn any_vm() -> impl Strategy<Value = (Vm, CloudInit)> {
    let size = || prop_oneof![(1_u64..64).prop_map(ByteSize::gib), (1_u64..1 << 40).prop_map(ByteSize::bytes)];
    let text = || {
        prop_oneof![
            word(),
            "(#cloud-config\n)?([ -~]{0,30}\n){0,6}[ -~]{0,5}",
            "[ \t\n\r|>\"'#-]{0,12}",
            any::<String>(),
        ]
    };
    let bytes = prop_oneof![text().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..40)];
    let data = move || prop::option::of(bytes.clone().prop_map(|bytes| UserData::new(bytes).unwrap()));
    let labels = any_labels();
    let disks = prop::collection::btree_map("[a-z][a-z0-9]{0,9}".prop_map(|name| name.parse().unwrap()), size(), 0..4);
    let machine = (1_u32..200, size(), prop::option::of(size()), size(), disks, any::<bool>(), 0_usize..3);
    let upkeep = (labels, "[ -~\n]{0,40}", any::<[bool; 3]>(), 0_usize..3, 0_usize..3);
    let told = (data(), data(), prop::collection::vec(word(), 0..3), 0_usize..3, any::<bool>());
    (machine, upkeep, told).prop_map(|(machine, upkeep, told)| {
        let mut vm = sample();
        let (cpus, memory, most, disk, disks, cd, bridges) = machine;
        (vm.cpus, vm.memory, vm.disk) = (cpus, memory, disk);
        (vm.hardware.memory_max, vm.hardware.disks) = (most, disks);
        vm.hardware.cd = cd.then(|| vm.template.clone());
        vm.hardware.bridges = (0..bridges).map(|n| format!("br{n}").parse().unwrap()).collect();
        let (labels, description, [protected, autostart, uefi], restart, desired) = upkeep;
        (vm.labels, vm.description, vm.protected, vm.autostart) = (labels, description, protected, autostart);
        vm.hardware.firmware = if uefi { Firmware::Uefi } else { Firmware::Bios };
        vm.hardware.cpu_model = if uefi { "qemu64".parse().unwrap() } else { Default::default() };
        vm.restart = [RestartPolicy::OnFailure, RestartPolicy::Always, RestartPolicy::Never][restart];
        vm.desired = [Desired::Running, Desired::Stopped, Desired::Paused][desired];
        let (user_data, network_config, keys, datasource, v2) = told;
        vm.user_data = user_data.as_ref().map(UserDataInfo::from);
        vm.network_config = network_config.as_ref().map(UserDataInfo::from);
        vm.ssh_keys = keys;
        vm.datasource = [Datasource::NoCloud, Datasource::Ec2, Datasource::OpenStack][datasource];
        vm.imds = if v2 { Imds::V2 } else { Imds::Any };
        let told = CloudInit {
            user_data: user_data.map(UserDataIn),
            network_config: network_config.map(UserDataIn),
            ssh_keys: vm.ssh_keys.clone(),
            datasource: vm.datasource,
            imds: vm.imds,
        };
        (vm, told)
    })
}

/// What `text` describes, read as a file with this ending.
fn read_back(text: &str, ending: &str) -> read::Wanted {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("a.{ending}"));
    std::fs::write(&file, text).unwrap();
    let wanted = read::read(&[file]);
    wanted.unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_exported_changes_nothing((it, told) in any_vm(), newest in any::<bool>(), with in any::<bool>()) {
        let templates = if newest { vec![known(&it.template)] } else { Vec::new() };
        let document = vm(&it, with.then_some(told), &templates);
        let documents = [Document::Vm(Box::new(document.clone()))];
        for (text, ending) in [(yaml(&documents).unwrap(), "yaml"), (toml(&documents).unwrap(), "toml")] {
            let back = read_back(&text, ending).vms.remove(0).document;
            prop_assert_eq!(&back, &document, "{}", text);
            prop_assert_eq!(compare::compare(&back, &it), Difference::default(), "{}", text);
        }
    }

    #[test]
    fn what_is_exported_of_a_node_changes_nothing(labels in any_labels()) {
        let mut it = sample_node();
        it.labels = labels;
        let documents = [Document::Node(node(&it))];
        for (text, ending) in [(yaml(&documents).unwrap(), "yaml"), (toml(&documents).unwrap(), "toml")] {
            let back = read_back(&text, ending).nodes.remove(0).document;
            prop_assert_eq!(&back, &node(&it), "{}", text);
            let (fields, patch) = compare::labels(&back.labels.unwrap(), &it.labels);
            prop_assert!(fields.is_empty() && patch.is_empty(), "{}", text);
        }
    }
}

fn known(template: &TemplateRef) -> Template {
    let json = serde_json::json!({
        "name": template.name,
        "versions": [{
            "template": template.name, "version": template.version, "sha256": Sha256([7; 32]), "size": 1, "virtual_size": 1,
            "format": "qcow2", "url": "https://x/y.qcow2", "nodes": [], "vms": 1, "added_at": "2026-03-01T12:00:00Z"
        }]
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_cluster_as_files() {
    let it = compare::tests::laden();
    let told = CloudInit {
        user_data: Some(UserDataIn::new(b"#cloud-config\npackages: [vim]\n".to_vec()).unwrap()),
        network_config: Some(UserDataIn::new(vec![0x1f, 0x8b, 0xff]).unwrap()),
        ..CloudInit::default()
    };
    let mut iso = known(&it.template);
    iso.name = "iso".parse().unwrap();
    iso.versions[0].version = Blake3::of(b"newer");
    let templates = [known(&it.template), iso];
    let mut n1 = sample_node();
    n1.labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]).try_into().unwrap();
    let documents = [
        Document::Template(template(&templates[0]).unwrap()),
        Document::Node(node(&n1)),
        Document::Vm(Box::new(vm(&it, Some(told), &templates))),
    ];
    expect![[r#"
        kind: template
        name: debian-12
        url: https://x/y.qcow2
        sha256: "0707070707070707070707070707070707070707070707070707070707070707"
        ---
        kind: node
        name: n1
        labels:
          zone: a
        ---
        kind: vm
        name: web-1
        template: debian-12
        running: true
        cpus: 2
        memory: 4G
        memory_max: 8G
        disk: 10G
        disks:
          data: 20G
          old: 5G
        cd: iso@9f3c21ab01cd0000000000000000000000000000000000000000000000000000
        bridges:
        - br0
        labels:
          env: prod
          team: a,b
        description: |-
          shop
          front
        ssh_keys:
        - ssh-ed25519 AAAA me
        - ssh-rsa BBBB you
        user_data: |
          #cloud-config
          packages: [vim]
        network_config:
          base64: H4v/
        imds: v2
    "#]]
    .assert_eq(&yaml(&documents).unwrap());
    expect![[r#"
        [[template]]
        name = "debian-12"
        url = "https://x/y.qcow2"
        sha256 = "0707070707070707070707070707070707070707070707070707070707070707"

        [[node]]
        name = "n1"

        [node.labels]
        zone = "a"

        [[vm]]
        name = "web-1"
        template = "debian-12"
        running = true
        cpus = 2
        memory = "4G"
        memory_max = "8G"
        disk = "10G"
        cd = "iso@9f3c21ab01cd0000000000000000000000000000000000000000000000000000"
        bridges = ["br0"]
        description = """
        shop
        front"""
        ssh_keys = [
            "ssh-ed25519 AAAA me",
            "ssh-rsa BBBB you",
        ]
        user_data = """
        #cloud-config
        packages: [vim]
        """
        imds = "v2"

        [vm.disks]
        data = "20G"
        old = "5G"

        [vm.labels]
        env = "prod"
        team = "a,b"

        [vm.network_config]
        base64 = "H4v/"
    "#]]
    .assert_eq(&toml(&documents).unwrap());
}

#[test]
fn a_template_from_a_file_is_nobody_else_s() {
    let mut uploaded = known(&sample().template);
    uploaded.versions[0].url = None;
    assert_eq!(template(&uploaded), None);
}
