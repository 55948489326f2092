//! EC2's tree, crawled as cloud-init crawls it.

use super::*;
use crate::{
    Documents,
    instance::tests::{data, sample},
};
use expect_test::{Expect, expect};

fn get(documents: &Documents, path: &str) -> Option<String> {
    documents.ec2(path).map(|d| String::from_utf8(d.bytes().to_vec()).unwrap())
}

fn says(path: &str, expected: Expect) {
    expected.assert_eq(&get(&Documents::render(&sample()), path).unwrap());
}

/// Follows listings as cloud-init's `MetadataMaterializer` does.
fn crawl(documents: &Documents, folder: &str, out: &mut String) {
    for entry in get(documents, folder).unwrap().lines() {
        if entry.ends_with('/') {
            crawl(documents, &format!("{folder}{entry}"), out);
            continue;
        }
        let leaf = entry.split_once('=').map_or_else(|| entry.to_owned(), |(n, _)| format!("{n}/openssh-key"));
        let value = get(documents, &format!("{folder}{leaf}")).unwrap();
        out.push_str(&format!("{}{entry}: {value}\n", folder.trim_start_matches("/2021-03-23/meta-data/")));
    }
}

#[test]
fn the_tree_as_cloud_init_crawls_it() {
    let mut out = String::new();
    crawl(&Documents::render(&sample()), "/2021-03-23/meta-data/", &mut out);
    expect![[r#"
        ami-id: ami-debian-12
        ami-launch-index: 0
        ami-manifest-path: (unknown)
        block-device-mapping/ami: /dev/vda
        block-device-mapping/root: /dev/vda
        hostname: web-1.waifu.internal
        instance-action: none
        instance-id: i-a9a5a5a5a5a5a5a5b
        instance-life-cycle: on-demand
        instance-type: waifu.2cpu-4096mib
        local-hostname: web-1.waifu.internal
        local-ipv4: 10.77.2.14
        mac: 52:54:0a:4d:02:0e
        network/interfaces/macs/52:54:0a:4d:02:0e/device-number: 0
        network/interfaces/macs/52:54:0a:4d:02:0e/interface-id: eni-0000052540a4d020e
        network/interfaces/macs/52:54:0a:4d:02:0e/local-hostname: web-1.waifu.internal
        network/interfaces/macs/52:54:0a:4d:02:0e/local-ipv4s: 10.77.2.14
        network/interfaces/macs/52:54:0a:4d:02:0e/mac: 52:54:0a:4d:02:0e
        network/interfaces/macs/52:54:0a:4d:02:0e/owner-id: 000000000000
        network/interfaces/macs/52:54:0a:4d:02:0e/security-groups: default
        network/interfaces/macs/52:54:0a:4d:02:0e/subnet-id: subnet-00000000a4d020018
        network/interfaces/macs/52:54:0a:4d:02:0e/subnet-ipv4-cidr-block: 10.77.2.0/24
        network/interfaces/macs/52:54:0a:4d:02:0e/vpc-id: vpc-00000000000000001
        placement/availability-zone: node-a
        placement/region: waifu
        profile: default-hvm
        public-keys/0=key-0: ssh-ed25519 AAAAC3Nz alice@laptop
        public-keys/1=key-1: ssh-rsa AAAAB3Nz
        reservation-id: r-a9a5a5a5a5a5a5a5a
        security-groups: default
    "#]]
    .assert_eq(&out);
}

#[test]
fn listings() {
    says(
        "/",
        expect![[r#"
        1.0
        2009-04-04
        2016-09-02
        2018-09-24
        2019-10-01
        2020-10-27
        2021-03-23
        latest"#]],
    );
    says(
        "/latest/",
        expect![[r#"
        dynamic/
        meta-data/"#]],
    );
    says("/latest/dynamic/instance-identity", expect!["document"]);
    says(
        "/latest/meta-data/public-keys/",
        expect![[r#"
        0=key-0
        1=key-1"#]],
    );
    says("/latest/meta-data/public-keys/1/", expect!["openssh-key"]);
    says(
        "/latest/dynamic/instance-identity/document",
        expect![[r#"
        {
          "accountId": "000000000000",
          "architecture": "x86_64",
          "availabilityZone": "node-a",
          "imageId": "ami-debian-12",
          "instanceId": "i-a9a5a5a5a5a5a5a5b",
          "instanceType": "waifu.2cpu-4096mib",
          "pendingTime": "2025-10-09T08:53:20Z",
          "privateIp": "10.77.2.14",
          "region": "waifu",
          "version": "2017-09-30"
        }
    "#]],
    );
}

#[test]
fn folders_have_a_slash_or_none_and_leaves_have_none() {
    let documents = Documents::render(&sample());
    for version in VERSIONS {
        assert_eq!(
            get(&documents, &format!("/{version}/meta-data/instance-id")).unwrap(),
            sample().instance_id().as_str()
        );
        assert_eq!(get(&documents, &format!("/{version}/meta-data")), get(&documents, "/latest//meta-data/"));
    }
    for absent in [
        "/latest/meta-data/instance-id/",
        "/latest/user-data",
        "/2009-04-05/meta-data/",
        "/latest/meta-data/../user-data",
        "/latest/meta-data/iam/",
        "/meta-data",
        "/openstack",
        "/latest/meta-data/public-keys/2/openssh-key",
    ] {
        assert_eq!(get(&documents, absent), None, "{absent}");
    }
}

#[test]
fn user_data_is_listed_where_there_is_some() {
    let mut vm = sample();
    vm.cloud_init.user_data = data("#!/bin/sh\n");
    vm.cloud_init.ssh_keys.clear();
    let documents = Documents::render(&vm);
    assert_eq!(get(&documents, "/latest").unwrap(), "dynamic/\nmeta-data/\nuser-data");
    assert_eq!(get(&documents, "/latest/user-data").unwrap(), "#!/bin/sh\n");
    assert!(!get(&documents, "/latest/meta-data/").unwrap().contains("public-keys"));
}

#[test]
fn moments_are_dates() {
    for (millis, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_740_787_199_999, "2025-02-28T23:59:59Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(Timestamp(millis)), text);
    }
}
