//! Documents as guests get them: what is found, what is not, and every byte of what people gave.

use super::*;
use crate::instance::tests::{data, sample};
use expect_test::expect;
use proptest::prelude::*;

fn body(document: Option<&Document>) -> String {
    String::from_utf8(document.unwrap().bytes().to_vec()).unwrap()
}

#[test]
fn nocloud_has_four_documents_be_they_empty() {
    let documents = Documents::render(&sample());
    expect![[r#"
        {
          "instance-id": "i-a9a5a5a5a5a5a5a5b",
          "local-hostname": "web-1.waifu.internal",
          "availability-zone": "node-a",
          "public-keys": [
            "ssh-ed25519 AAAAC3Nz alice@laptop",
            "ssh-rsa AAAAB3Nz"
          ]
        }
    "#]]
    .assert_eq(&body(documents.nocloud("/meta-data")));
    for empty in ["/user-data", "/network-config", "//user-data/", "user-data"] {
        assert_eq!(body(documents.nocloud(empty)), "", "{empty}");
    }
    for absent in ["/", "", "/latest/meta-data", "/meta-data/instance-id", "/user-data?x", "/%75ser-data"] {
        assert_eq!(documents.nocloud(absent), None, "{absent}");
    }
}

#[test]
fn documents_know_whose_they_are_and_do_not_show_what_is_in_them() {
    let mut vm = sample();
    vm.cloud_init.user_data = data("#cloud-config\npassword: hunter2\n");
    vm.cloud_init.imds = Imds::V2;
    let documents = Documents::render(&vm);
    assert_eq!((documents.vm(), documents.instance_id(), documents.imds()), (vm.id, &vm.instance_id(), Imds::V2));
    assert!(!format!("{documents:?}").contains("hunter2"));
    let types = ["/user-data", "/meta-data"].map(|p| documents.nocloud(p).unwrap().content_type());
    assert_eq!(types, ["application/octet-stream", "application/json"]);
}

/// Whatever else stood beside the URL would be merged into a `phone_home` of the user's own.
#[test]
fn who_was_given_no_vendor_data_is_asked_to_tell_when_cloud_init_is_done() {
    let mut vm = sample();
    let asked =
        "#cloud-config\nphone_home: {url: 'http://169.254.169.254/waifud/cloud-init-done', post: all, tries: 10}\n";
    let nocloud = |vm: &Instance| body(Documents::render(vm).nocloud("/vendor-data"));
    let openstack = |vm: &Instance| -> serde_json::Value {
        serde_json::from_str(&body(Documents::render(vm).openstack("/openstack/latest/vendor_data.json"))).unwrap()
    };
    assert_eq!((nocloud(&vm).as_str(), &openstack(&vm)["cloud-init"]), (asked, &asked.into()));
    assert!(crate::user_data::check(asked.as_bytes()).unwrap().warnings.is_empty());
    vm.cloud_init.network_config = data("version: 2\n");
    assert_eq!((nocloud(&vm), openstack(&vm)), (String::new(), serde_json::json!({})), "its documents are on a disk");
    vm.defaults.vendor_data = data("#!/bin/sh\n");
    assert_eq!((nocloud(&vm).as_str(), &openstack(&vm)["cloud-init"]), ("#!/bin/sh\n", &"#!/bin/sh\n".into()));
}

#[test]
fn documents_know_which_life_they_are_for() {
    let mut vm = sample();
    vm.instance = 3;
    let documents = Documents::render(&vm);
    let [nocloud, openstack] = ["instance-id", "uuid"].map(|key| {
        let text = body(if key == "uuid" {
            documents.openstack("/openstack/latest/meta_data.json")
        } else {
            documents.nocloud("/meta-data")
        });
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[key].as_str().unwrap().to_owned()
    });
    assert_eq!(documents.life(), 3);
    assert!(documents.is_for(&nocloud) && documents.is_for(&openstack));
    vm.instance = 4;
    let next = Documents::render(&vm);
    assert!(!next.is_for(&nocloud) && !next.is_for(&openstack) && !next.is_for("") && !next.is_for(&vm.id.to_string()));
}

/// PyYAML refuses or folds what JSON lets through.
#[test]
fn json_is_yaml() {
    let mut vm = sample();
    vm.cloud_init.ssh_keys = vec!["ssh-rsa AAAA \u{85}\u{2028}\u{7f}\u{feff}\"\\\t😀é".to_owned()];
    let text = body(Documents::render(&vm).nocloud("/meta-data"));
    assert!(text.contains(r#"\u0085\u2028\u007f\ufeff\"\\\t😀é"#), "{text}");
    let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(back, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    assert_eq!(back["public-keys"][0], vm.cloud_init.ssh_keys[0]);
}

proptest! {
    #[test]
    fn user_data_passes_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..2000), vendor in any::<Vec<u8>>()) {
        let mut vm = sample();
        vm.cloud_init.user_data = data(&bytes);
        vm.defaults.vendor_data = data(&vendor);
        vm.cloud_init.network_config = data(&bytes);
        let documents = Documents::render(&vm);
        let found = [
            documents.nocloud("/user-data"),
            documents.nocloud("/network-config"),
            documents.ec2("/latest/user-data"),
            documents.openstack("/openstack/latest/user_data"),
        ];
        for document in found {
            prop_assert_eq!(&document.unwrap().bytes()[..], &bytes[..]);
        }
        prop_assert_eq!(&documents.nocloud("/vendor-data").unwrap().bytes()[..], &vendor[..]);
        prop_assert_eq!(documents, Documents::render(&vm));
    }

    #[test]
    fn json_parses_whatever_the_keys_and_vendor_data_are(keys in any::<Vec<String>>(), vendor in any::<Vec<u8>>()) {
        let mut vm = sample();
        vm.cloud_init.ssh_keys = keys.clone();
        vm.defaults.vendor_data = data(&vendor);
        let documents = Documents::render(&vm);
        let parse = |document: Option<&Document>| serde_json::from_slice::<serde_json::Value>(document.unwrap().bytes());
        let meta = parse(documents.nocloud("/meta-data")).unwrap();
        prop_assert_eq!(meta["public-keys"].as_array().unwrap().len(), keys.len());
        for name in ["meta_data", "network_data", "vendor_data", "vendor_data2"] {
            let path = format!("/openstack/latest/{name}.json");
            prop_assert!(parse(documents.openstack(&path)).is_ok());
        }
        prop_assert!(parse(documents.ec2("/latest/dynamic/instance-identity/document")).is_ok());
    }

    #[test]
    fn no_path_makes_a_lookup_panic(path in ".{0,60}", tail in "(/(openstack|latest|meta-data|user-data|\\.\\.|1\\.0|)){0,5}") {
        let documents = Documents::render(&sample());
        for path in [&path, &tail] {
            let _ = (documents.nocloud(path), documents.ec2(path), documents.openstack(path));
        }
    }
}
