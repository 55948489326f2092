//! Files as people write them, and what is wrong with them.

use super::*;
use expect_test::{Expect, expect};
use std::fs;

/// Writes `files` into a directory of their own and reads those of `named`.
fn read_files(files: &[(&str, &str)], named: &[&str]) -> Result<Wanted, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let paths: Vec<_> = named.iter().map(|name| dir.path().join(name)).collect();
    let place = format!("{}/", dir.path().display());
    read(&paths).map_err(|faults| faults.iter().map(|fault| format!("{fault}\n").replace(&place, "")).collect())
}

fn faults(files: &[(&str, &str)], expected: Expect) {
    let named: Vec<_> = files.iter().map(|(name, _)| *name).filter(|name| !name.contains("beside")).collect();
    expected.assert_eq(&read_files(files, &named).unwrap_err());
}

#[test]
fn one_file_has_many_documents_in_any_form() {
    let yaml = "kind: vm\nname: a\ntemplate: t\n---\n- {kind: vm, name: b, template: t@9f3c21, memory: 4G}\n- kind: template\n  name: t\n  file: t.qcow2\n";
    let toml = "[[vm]]\nname = 'c'\ntemplate = 't'\n[vm.disks]\ndata = '20G'\n";
    let lists = "vm:\n- name: d\n  template: t\n  cd: null\nnode:\n- name: n1\n  labels: {zone: a}\n";
    let files = [("a.yaml", yaml), ("b.toml", toml), ("c.yml", lists), ("t.qcow2", "bytes"), ("notes.txt", "not read")];
    let wanted = read_files(&files, &["."]).unwrap();
    let names: Vec<_> = wanted.vms.iter().map(|vm| (vm.document.name.as_str(), vm.origin.line)).collect();
    assert_eq!(names, [("a", 1), ("b", 5), ("c", 1), ("d", 2)]);
    assert_eq!(wanted.vms[1].document.memory.unwrap().to_string(), "4G");
    assert_eq!(wanted.vms[2].document.disks.as_ref().unwrap().len(), 1);
    assert_eq!(wanted.vms[3].document.cd, Some(None));
    assert_eq!(wanted.nodes[0].document.labels.as_ref().unwrap().get("zone"), Some("a"));
    assert!(matches!(&wanted.templates[0].image, Image::File { path, sha256: None } if path.ends_with("t.qcow2")));
}

#[test]
fn files_stand_beside_the_document() {
    let vm = "kind: vm\nname: a\ntemplate: t\nuser_data_file: beside.yaml\nssh_keys: [ssh-rsa A]\nssh_key_files: [beside.pub]\n";
    let files = [("a.yaml", vm), ("beside.yaml", "#cloud-config\n"), ("beside.pub", "ssh-ed25519 B me\n")];
    let wanted = read_files(&files, &["a.yaml"]).unwrap();
    let document = &wanted.vms[0].document;
    assert_eq!(document.user_data.as_ref().unwrap().as_ref().unwrap().0.as_bytes(), b"#cloud-config\n");
    assert_eq!(document.ssh_keys.as_ref().unwrap(), &["ssh-rsa A", "ssh-ed25519 B me"]);
    assert_eq!((&document.user_data_file, &document.ssh_key_files), (&None, &None));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    faults(
        &[
            (
                "a.yaml",
                "kind: vm\nname: Web_1\ntemplate: debian-12\nmemroy: 4G\ncpus: two\ndisks:\n  data: lots\n  good: 1G\nlabels:\n  env: 1\n",
            ),
            (
                "b.yaml",
                "kind: vm\ntemplate: t\n---\nkind: machine\n---\nname: x\n---\nkind: vm\nname: a\ntemplate: t\nuser_data: x\nuser_data_file: y\n---\njust words\n",
            ),
            (
                "c.toml",
                "[[vm]]\nname = 'a'\ntemplate = 't'\nrunning = 'yes'\n\n[[template]]\nname = 't'\nurl = 'https://x/y'\n",
            ),
            ("d.toml", "vm = \n"),
            ("f.yaml", "kind: node\nlabels: {zone: a}\ncordoned: true\n"),
            ("e.yaml", "kind: vm\nname: a\ntemplate: t\nuser_data_file: nope.yaml\nssh_key_files: [beside.key]\n"),
            ("beside.key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
        ],
        expect![[r#"
            a.yaml:1: name is missing
            a.yaml:2: name: "Web_1" is not a VM name: only lower-case letters, digits and '-' are allowed
            a.yaml:4: there is no field "memroy"; did you mean "memory"?
            a.yaml:5: cpus: invalid type: string "two", expected a whole number
            a.yaml:7: disks.data: "lots" is not a size; write a number with K, M, G or T, for example 512M or 10G
            a.yaml:10: labels.env: invalid type: integer `1`, expected a string
            b.yaml:1: name is missing
            b.yaml:4: kind: "machine" is not known; it is vm, template or node
            b.yaml:6: kind is missing; it is vm, template or node
            b.yaml:12: user_data_file: there is user_data too; only one of them can be meant
            b.yaml:14: a document was expected: fields, with kind: vm, template or node
            c.toml:4: running: invalid type: string "yes", expected a boolean
            c.toml:8: url: sha256 is missing; nothing unverified is ever booted
            d.toml:1: string values must be quoted, expected literal string
            e.yaml:4: user_data_file: nope.yaml: No such file or directory (os error 2)
            e.yaml:5: ssh_key_files: beside.key is a private key; the public one is probably beside.key.pub
            f.yaml:1: name is missing
            f.yaml:3: there is no field "cordoned"; there are name, labels
        "#]],
    );
}

#[test]
fn an_object_is_described_once() {
    faults(
        &[("a.yaml", "vm: [{name: a, template: t}]\n"), ("b.yaml", "# again\nkind: vm\nname: a\ntemplate: t\n")],
        expect![[r#"
            b.yaml:2: vm a is described twice; first in a.yaml:1
        "#]],
    );
}

#[test]
fn a_file_without_a_document_is_a_mistake() {
    faults(
        &[("a.yaml", "# nothing\n")],
        expect![[r#"
        a.yaml: nothing is described in it
    "#]],
    );
}
