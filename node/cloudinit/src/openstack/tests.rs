//! OpenStack's documents.

use super::*;
use crate::{
    Documents,
    instance::tests::{data, sample},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use expect_test::{Expect, expect};

fn get(documents: &Documents, path: &str) -> Option<String> {
    documents.openstack(path).map(|d| String::from_utf8(d.bytes().to_vec()).unwrap())
}

fn says(path: &str, expected: Expect) {
    expected.assert_eq(&get(&Documents::render(&sample()), path).unwrap());
}

#[test]
fn documents_of_a_vm() {
    says(
        "/openstack",
        expect![[r#"
        2012-08-10
        2013-04-04
        2013-10-17
        2015-10-15
        2016-06-30
        2016-10-06
        2017-02-22
        2018-08-27
        2020-10-14
        latest"#]],
    );
    says(
        "/openstack/latest/",
        expect![[r#"
        meta_data.json
        network_data.json
        vendor_data.json
        vendor_data2.json"#]],
    );
    says(
        "/openstack/2018-08-27/meta_data.json",
        expect![[r#"
        {
          "uuid": "00000001-5a5a-4a5a-9a5a-5a5a5a5a5a5a",
          "hostname": "web-1.waifu.internal",
          "name": "web-1",
          "availability_zone": "node-a",
          "launch_index": 0,
          "meta": {},
          "public_keys": {
            "key-0": "ssh-ed25519 AAAAC3Nz alice@laptop",
            "key-1": "ssh-rsa AAAAB3Nz"
          },
          "devices": []
        }
    "#]],
    );
    says(
        "/openstack/2018-08-27/network_data.json",
        expect![[r#"
        {
          "links": [
            {
              "id": "eth0",
              "vif_id": "eth0",
              "type": "phy",
              "mtu": 1420,
              "ethernet_mac_address": "52:54:0a:4d:02:0e"
            }
          ],
          "networks": [
            {
              "id": "network0",
              "type": "ipv4_dhcp",
              "link": "eth0",
              "network_id": "waifu"
            }
          ],
          "services": [
            {
              "type": "dns",
              "address": "10.77.2.1"
            }
          ]
        }
    "#]],
    );
    says(
        "/openstack/2018-08-27/vendor_data.json",
        expect![[r##"
            {
              "cloud-init": "#cloud-config\nphone_home: {url: 'http://169.254.169.254/waifud/cloud-init-done', post: all, tries: 10}\n"
            }
        "##]],
    );
    says(
        "/openstack/2018-08-27/vendor_data2.json",
        expect![[r#"
        {}
    "#]],
    );
}

#[test]
fn what_is_not_there_is_not_found() {
    let documents = Documents::render(&sample());
    for absent in
        ["/openstack/latest/user_data", "/openstack/latest/password", "/openstack/2019-01-01/meta_data.json", "/latest"]
    {
        assert_eq!(get(&documents, absent), None, "{absent}");
    }
}

#[test]
fn vendor_data_that_is_text_is_itself_and_any_other_is_mime() {
    let mut vm = sample();
    vm.defaults.vendor_data = data("#cloud-config\nlocale: \"de\u{85}\"\n");
    let vendor = |vm: &Instance| -> serde_json::Value {
        let text = get(&Documents::render(vm), "/openstack/latest/vendor_data.json").unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(vendor(&vm)["cloud-init"], "#cloud-config\nlocale: \"de\u{85}\"\n");
    let gzip = [0x1f, 0x8b, 8, 0, 255, 254];
    vm.defaults.vendor_data = data(gzip);
    let mime = vendor(&vm)["cloud-init"].as_str().unwrap().to_owned();
    assert!(mime.contains("Content-Type: application/gzip\n") && mime.contains(&BASE64.encode(gzip)), "{mime}");
}
