//! Plans as people see them.

use super::*;
use crate::apply::{
    compare::{
        self,
        tests::{document, laden},
    },
    plan::Object,
    read::{Origin, WantedTemplate, WantedVm},
};
use expect_test::expect;
use waifud_api::{exit::Exit, vm::Placement};

fn wanted(lines: &str) -> Box<WantedVm> {
    let origin = Origin { file: "a.yaml".to_owned(), line: 1 };
    Box::new(WantedVm { origin, document: document(lines), sources: Default::default() })
}

fn step(action: Action, notes: &[&str]) -> Step {
    Step { object: Object::vm("web-1"), action, notes: notes.iter().map(|note| (*note).to_owned()).collect() }
}

fn change(lines: &str) -> Action {
    let (wanted, vm) = (wanted(lines), Box::new(laden()));
    let difference = Box::new(compare::compare(&wanted.document, &vm));
    Action::Change { wanted, vm, difference, told: None }
}

fn example() -> Plan {
    let image = Image::Url { url: "https://x/y.qcow2".to_owned(), sha256: waifud_model::digest::Sha256([7; 32]) };
    let origin = Origin { file: "a.yaml".to_owned(), line: 1 };
    let template = WantedTemplate { origin, name: "debian-12".parse().unwrap(), image: image.clone() };
    let new = wanted("template: debian-12\nmemory: 4G\ncpus: 2\ndisks: {data: 20G}\nrunning: false\n");
    let placement =
        Placement { node: "n2".parse().unwrap(), reason: "most free memory of 3".to_owned(), rejected: Vec::new() };
    let refused = compare::compare(&document("template: ubuntu-24.04\ncpus: 4\n"), &laden());
    let cannot = Action::Cannot { fields: refused.fields, why: refused.cannot, exit: Exit::Conflict };
    let text = "#cloud-config\npassword: hunter2\n";
    let more = format!("description: \"two\\nlines of {}\"\nuser_data: {text:?}\n", "words ".repeat(20));
    let steps = vec![
        step(Action::Unchanged, &[]),
        step(cannot, &[]),
        step(Action::Delete { vm: Box::new(laden()) }, &[]),
        step(
            change(&format!("template: debian-12\nmemory: 6G\ndisks: {{data: 40G}}\nfirmware: uefi\n{more}")),
            &["user_data: line 2: odd"],
        ),
        step(
            Action::Create {
                request: Box::new(compare::create(&new.document)),
                wanted: new,
                placement: Some(placement),
            },
            &[],
        ),
        Step {
            object: Object::template("debian-12"),
            action: Action::AddVersion { wanted: template, image },
            notes: vec![],
        },
    ];
    let mut plan = Plan { steps };
    plan.sort();
    plan
}

#[test]
fn a_plan_says_what_would_be_done_and_shows_no_secret() {
    let shown = plan(&example(), false);
    expect![[r#"
        + template debian-12  a version from https://x/y.qcow2, SHA-256 070707070707
        ~ vm web-1            on n2
            memory       4 GiB → 6 GiB  (while it runs, if the guest can; else at its next start)
            disks.data   20 GiB → 40 GiB  (while it runs, if the guest can; else at its next start)
            disks.old    5 GiB → (none)  with all that is on it  (while it runs, if the guest can; else at its next start)
            firmware     bios → uefi  (at its next start)
            description  shop front → two lines of words words words words words words words words…
            user_data    120 bytes, BLAKE3 000000000000 → 32 bytes, BLAKE3 550ad7eb9901  (at its next start)
            note: user_data: line 2: odd
        + vm web-1            debian-12, 2 CPUs, 4 GiB, data 20 GiB, not started; on n2: most free memory of 3
        - vm web-1            on n2, disk 10 GiB: in no file
        = vm web-1            unchanged
        ! vm web-1            cannot be done
            cpus  2 → 4  (while it runs, if the guest can; else at its next start)
            template: it was made from debian-12@9f3c21ab01cd, not from ubuntu-24.04; waifuctl reinit web-1 -t ubuntu-24.04 makes it anew (what is on its root disk is lost)
        1 template version to add, 1 to change, 1 to create, 1 to delete, 1 unchanged, 1 that cannot be done
    "#]].assert_eq(&shown);
    assert!(!shown.contains("hunter2"));
    assert!(!serde_json::to_string(&example().rows()).unwrap().contains("hunter2"));
    let coloured = plan(&example(), true);
    let plain = coloured
        .split('\u{1b}')
        .map(|part| part.split_once('m').filter(|_| part.starts_with('[')).map_or(part, |(_, rest)| rest));
    assert_eq!(plain.collect::<String>(), shown);
}

#[test]
fn what_would_be_lost_is_asked_about() {
    expect!["Delete old (5 GiB) of vm web-1; vm web-1 on n2 with its disks? This cannot be undone."]
        .assert_eq(&example().question().unwrap());
    let mut harmless = example();
    harmless
        .steps
        .retain(|step| matches!(step.action, Action::Create { .. } | Action::Cannot { .. } | Action::Unchanged));
    assert_eq!(harmless.question(), None);
}

#[test]
fn a_plan_for_programs() {
    expect![[r#"
        [
          {
            "kind": "template",
            "name": "debian-12",
            "action": "add_version"
          },
          {
            "kind": "vm",
            "name": "web-1",
            "action": "change",
            "node": "n2",
            "fields": [
              {
                "field": "memory",
                "old": "4 GiB",
                "new": "6 GiB",
                "takes": "live_or_next_start"
              },
              {
                "field": "disks.data",
                "old": "20 GiB",
                "new": "40 GiB",
                "takes": "live_or_next_start"
              },
              {
                "field": "disks.old",
                "old": "5 GiB",
                "takes": "live_or_next_start"
              },
              {
                "field": "firmware",
                "old": "bios",
                "new": "uefi",
                "takes": "next_start"
              },
              {
                "field": "description",
                "old": "shop\nfront",
                "new": "two\nlines of words words words words words words words words words words words words words words words words words words words words ",
                "takes": "at_once"
              },
              {
                "field": "user_data",
                "old": "120 bytes, BLAKE3 000000000000",
                "new": "32 bytes, BLAKE3 550ad7eb9901",
                "takes": "next_start"
              }
            ],
            "notes": [
              "user_data: line 2: odd"
            ]
          },
          {
            "kind": "vm",
            "name": "web-1",
            "action": "create",
            "node": "n2"
          },
          {
            "kind": "vm",
            "name": "web-1",
            "action": "delete",
            "node": "n2"
          },
          {
            "kind": "vm",
            "name": "web-1",
            "action": "unchanged"
          },
          {
            "kind": "vm",
            "name": "web-1",
            "action": "cannot",
            "fields": [
              {
                "field": "cpus",
                "old": "2",
                "new": "4",
                "takes": "live_or_next_start"
              }
            ],
            "why": [
              "template: it was made from debian-12@9f3c21ab01cd, not from ubuntu-24.04; waifuctl reinit web-1 -t ubuntu-24.04 makes it anew (what is on its root disk is lost)"
            ]
          }
        ]"#]].assert_eq(&serde_json::to_string_pretty(&example().rows()).unwrap());
}
