//! Ids of instances, and the VM that other tests render.

use super::*;
use waifud_model::cloud_init::UserData;

/// A VM with everything set but user-data.
pub(crate) fn sample() -> Instance {
    Instance {
        id: VmId::from_random([0x5a; 16]),
        instance: 1,
        name: VmName::new("web-1").unwrap(),
        ip: Ipv4Addr::new(10, 77, 2, 14),
        subnet: "10.77.2.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 77, 2, 1),
        mac: Mac::of(Ipv4Addr::new(10, 77, 2, 14)),
        dns: vec![Ipv4Addr::new(10, 77, 2, 1)],
        mtu: 1420,
        arch: Arch::X86_64,
        cpus: 2,
        memory: ByteSize::gib(4),
        cloud_init: CloudInit {
            ssh_keys: vec!["ssh-ed25519 AAAAC3Nz alice@laptop".to_owned(), "ssh-rsa AAAAB3Nz".to_owned()],
            ..CloudInit::default()
        },
        defaults: CloudDefaults::default(),
        node: NodeName::new("node-a").unwrap(),
        template: TemplateName::new("debian-12").unwrap(),
        created_at: Timestamp(1_760_000_000_123),
    }
}

/// Bytes as user-data.
pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Option<UserData> {
    Some(UserData::new(bytes.as_ref().to_vec()).unwrap())
}

#[test]
fn an_instance_id_has_the_form_of_ec2_and_changes_with_every_life() {
    let vm = VmId::from_random([0x5a; 16]);
    let ids: std::collections::BTreeSet<_> = (0..100).map(|n| InstanceId::of(vm, n)).collect();
    assert_eq!(ids.len(), 100);
    for id in ids {
        let hex = id.as_str().strip_prefix("i-").unwrap();
        assert!(hex.len() == 17 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
    assert_ne!(InstanceId::of(VmId::from_random([1; 16]), 1), InstanceId::of(vm, 1));
}

#[test]
fn openstacks_uuid_is_never_the_systems() {
    let mut vm = sample();
    let uuids: std::collections::BTreeSet<_> = (0..100)
        .map(|n| {
            vm.instance = n;
            vm.openstack_uuid()
        })
        .collect();
    assert_eq!(uuids.len(), 100);
    assert!(!uuids.contains(&vm.id.to_string()));
    assert!(uuids.iter().all(|u| u.len() == 36 && u[9..] == vm.id.to_string()[9..]), "{uuids:?}");
}

#[test]
fn an_instance_survives_being_stored() {
    let mut vm = sample();
    vm.cloud_init.user_data = data([0, 159, 146, 150]);
    assert_eq!(serde_json::from_str::<Instance>(&serde_json::to_string(&vm).unwrap()).unwrap(), vm);
}
