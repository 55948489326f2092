//! `waifuctl edit` and `waifuctl cluster cloud-init` as people and scripts see them: nothing that was written is lost, and
//! nothing that somebody else wrote is overwritten unseen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{Ended, documents::Store, ended};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use waifud_api::problem::ProblemCode;

const TEXT: &str = "#cloud-config\nhostname: a\n\npackages:\n  - vim\n\nruncmd:\n  - date\n";

fn store() -> Store {
    Store::new(json!({ "user_data": TEXT, "ssh_keys": ["ssh-ed25519 AAAA me"], "datasource": "ec2", "imds": "v2" }))
}

/// An editor that does what each of these shell scripts says, one a time it is opened; `$1` is the text.
fn editor(dir: &Path, rounds: &[&str]) -> String {
    for (n, round) in rounds.iter().enumerate() {
        fs::write(dir.join(format!("round-{n}")), round).unwrap();
    }
    let script = dir.join("editor");
    let next = format!("n=$(cat {0}/n 2>/dev/null || echo 0)\necho $((n+1)) > {0}/n\n. {0}/round-$n\n", dir.display());
    fs::write(&script, next).unwrap();
    format!("sh {}", script.display())
}

/// The texts that were left behind in `dir`.
fn left(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(".yaml")).collect()
}

struct House {
    work: TempDir,
    temporary: TempDir,
}

impl House {
    fn new() -> Self {
        Self { work: tempfile::tempdir().unwrap(), temporary: tempfile::tempdir().unwrap() }
    }

    async fn edit(&self, store: &Store, args: &[&str], rounds: &[&str], typed: &str) -> Ended {
        let editor = editor(self.work.path(), rounds);
        let args = [&["edit", "web-1"], args].concat();
        store.serve().on_terminal(&args, &editor, typed, self.temporary.path()).await
    }

    fn left(&self) -> Vec<PathBuf> {
        left(self.temporary.path())
    }

    /// What a round of the editor put aside.
    fn seen(&self) -> String {
        fs::read_to_string(self.work.path().join("seen")).unwrap()
    }

    fn see(&self) -> String {
        format!("cp \"$1\" {}/seen; ", self.work.path().display())
    }
}

#[tokio::test]
async fn a_change_by_hand_is_saved_and_says_when_it_takes_effect() {
    let (house, store) = (House::new(), store());
    let ended = house.edit(&store, &[], &["sed -i s/vim/nano/ \"$1\""], "what\nrerun\n").await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert_eq!(store.user_data(), TEXT.replace("vim", "nano"));
    assert_eq!(store.kept().taken, ["rerun=true"]);
    assert_eq!(store.kept().documents["datasource"], "ec2", "what stands beside it stays");
    assert!(house.left().is_empty());
    expect![[r#"
        keep   cloud-init keeps what it did; only what it looks at on every boot takes effect
        rerun  a new instance-id: at the next boot everything runs again, as on the first
        Keep or rerun? Type keep or rerun: ✓ the cloud-config of web-1 is saved generation 8
        everything runs again at the next boot (instance-id i-7-2):  waifuctl reboot web-1
        on a new root disk, all that was on it lost:  waifuctl reinit web-1
    "#]]
    .assert_eq(&ended.out);
}

#[tokio::test]
async fn nothing_changed_is_no_failure() {
    let (house, store) = (House::new(), store());
    let ended = house.edit(&store, &["--rerun"], &["true"], "").await;
    assert_eq!((ended.code, ended.out.as_str()), (0, "nothing is changed in the cloud-config of web-1\n"));
    assert!(house.left().is_empty() && store.kept().taken.is_empty());
}

#[tokio::test]
async fn an_editor_that_fails_changes_nothing() {
    let (house, store) = (House::new(), store());
    let ended = house.edit(&store, &["--keep"], &["exit 3"], "").await;
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("ended with status 3; nothing was changed"), "{}", ended.out);
    let kept = house.edit(&store, &["--keep"], &["", "echo x >> \"$1\"; exit 3"], "").await;
    assert!(kept.out.contains("your text is kept in "), "{}", kept.out);
    assert_eq!(house.left().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_shown_in_the_editor_and_never_becomes_part_of_the_text() {
    let (house, store) = (House::new(), store());
    let mend = house.see() + "sed -i s/broken/hostname/ \"$1\"";
    let ended = house.edit(&store, &["--keep"], &["sed -i s/hostname/broken/ \"$1\"", &mend], "").await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    expect![[r#"
        # waifuctl: user_data: line 2, column 1: it is not YAML
        # waifuctl: Lines are counted from #cloud-config on. Left as it is, the text is kept and the cluster is not changed.
        # waifuctl: ---- the text begins below this line, which is not part of it ----
        #cloud-config
        broken: a
    "#]]
    .assert_eq(&(house.seen().split_inclusive('\n').take(5).collect::<String>()));
    assert!(ended.out.contains("nothing is changed"), "mended means: as it was. {}", ended.out);
    assert!(house.left().is_empty());
}

#[tokio::test]
async fn keep_or_rerun_is_asked_of_what_can_be_saved() {
    let (house, store) = (House::new(), store());
    let mend = "sed -i 's/broken/hostname/; s/vim/nano/' \"$1\"";
    let ended = house.edit(&store, &[], &["sed -i s/hostname/broken/ \"$1\"", mend], "keep\n").await;
    assert_eq!((ended.code, store.user_data()), (0, TEXT.replace("vim", "nano")), "{}", ended.out);
    let (refusal, question) = (ended.out.find("it is not YAML"), ended.out.find("Keep or rerun?"));
    assert!(refusal.is_some() && refusal < question, "{}", ended.out);
    assert_eq!(store.kept().taken, [""]);
}

#[tokio::test]
async fn what_stays_broken_is_kept_without_our_words() {
    let (house, store) = (House::new(), store());
    let ended = house.edit(&store, &["--rerun"], &["sed -i s/hostname/broken/ \"$1\"", "true"], "").await;
    assert_eq!(ended.code, 2, "{}", ended.out);
    let left = house.left();
    assert_eq!(fs::read_to_string(&left[0]).unwrap(), TEXT.replace("hostname", "broken"));
    assert_eq!(fs::metadata(&left[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let again = format!("go on with: waifuctl edit web-1 --file {} --rerun\n", left[0].display());
    assert!(ended.out.ends_with(&again), "{}", ended.out);
    assert_eq!(store.user_data(), TEXT);
}

#[tokio::test]
async fn about_a_script_the_person_is_asked() {
    let (house, store) = (House::new(), store());
    let write = "printf '#!/bin/sh\\nbroken\\n' > \"$1\"";
    let ended = house.edit(&store, &["--keep"], &[write], "n\n").await;
    assert_eq!(ended.code, 2, "{}", ended.out);
    assert!(ended.out.contains("user_data: line 2, column 1: it is not YAML\nEdit it again? [Y/n]"), "{}", ended.out);
    assert_eq!(fs::read_to_string(&house.left()[0]).unwrap(), "#!/bin/sh\nbroken\n");
}

#[tokio::test]
async fn another_s_change_elsewhere_in_the_text_is_put_together_and_shown() {
    let (house, store) = (House::new(), store());
    store.kept().meanwhile = Some(json!({ "user_data": TEXT.replace("hostname: a", "hostname: b"), "imds": "any" }));
    let ended = house.edit(&store, &["--keep"], &["sed -i s/vim/nano/ \"$1\"", &house.see()], "").await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert_eq!(store.user_data(), TEXT.replace("vim", "nano").replace("hostname: a", "hostname: b"));
    assert_eq!(store.kept().documents["imds"], "any", "their change beside the text stays too");
    assert!(ended.out.contains("-hostname: a\n+hostname: b\n"), "{}", ended.out);
    assert!(house.seen().starts_with("# waifuctl: Somebody else changed the user-data of web-1 in between."));
    assert!(house.left().is_empty());
}

#[tokio::test]
async fn another_s_change_of_the_same_line_is_marked_and_not_saved_before_it_is_resolved() {
    let (house, store) = (House::new(), store());
    store.kept().meanwhile = Some(json!({ "user_data": TEXT.replace("vim", "emacs") }));
    let see = house.see();
    let resolve = "sed -i -e '/^<<<<<<< /d' -e '/^=======/,/^>>>>>>> /d' \"$1\"";
    let rounds = ["sed -i s/vim/nano/ \"$1\"", &*see, resolve];
    let ended = house.edit(&store, &["--keep"], &rounds, "").await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(house.seen().contains("<<<<<<< your text\n  - nano\n=======\n  - emacs\n>>>>>>> the cluster's text\n"));
    assert_eq!(store.user_data(), TEXT.replace("vim", "nano"));

    let given_up = House::new();
    store.kept().meanwhile = Some(json!({ "user_data": TEXT.replace("vim", "emacs") }));
    let rounds = ["sed -i s/nano/pico/ \"$1\"", "true", "true"];
    let ended = given_up.edit(&store, &["--keep"], &rounds, "").await;
    assert_eq!(ended.code, 7, "{}", ended.out);
    let kept = fs::read_to_string(&given_up.left()[0]).unwrap();
    assert!(kept.starts_with("#cloud-config\n") && kept.contains("  - pico\n=======\n  - emacs\n"), "{kept}");
}

#[tokio::test]
async fn a_change_that_is_about_something_else_is_no_conflict() {
    let (house, store) = (House::new(), store());
    let documents = store.kept().documents.clone();
    store.kept().meanwhile = Some(documents);
    let ended = house.edit(&store, &["--keep"], &["sed -i s/vim/nano/ \"$1\""], "").await;
    assert_eq!((ended.code, store.kept().generation), (0, 9), "{}", ended.out);
}

#[tokio::test]
async fn without_quorum_the_text_is_kept() {
    let (house, store) = (House::new(), store());
    store.kept().refusing = Some(ProblemCode::NoQuorum);
    let ended = house.edit(&store, &["--keep"], &["sed -i s/vim/nano/ \"$1\""], "").await;
    assert_eq!(ended.code, 4, "{}", ended.out);
    assert_eq!(fs::read_to_string(&house.left()[0]).unwrap(), TEXT.replace("vim", "nano"));
}

#[tokio::test]
async fn an_empty_text_takes_the_document_away_if_that_is_meant() {
    let (house, store) = (House::new(), store());
    let ended = house.edit(&store, &["--keep"], &[": > \"$1\""], "n\n").await;
    assert_eq!((ended.code, store.user_data().as_str()), (1, TEXT), "{}", ended.out);
    let house = House::new();
    let ended = house.edit(&store, &["--keep"], &[": > \"$1\""], "y\n").await;
    assert_eq!((ended.code, store.user_data().as_str()), (0, ""), "{}", ended.out);
    assert!(house.left().is_empty());
}

#[tokio::test]
async fn without_a_terminal_everything_must_be_said() {
    let fake = store().serve();
    let ended = fake.run(&["edit", "web-1", "--keep"]).await;
    assert_eq!((ended.code, ended.err.as_str()), (2, "error: there is no terminal for an editor: give --file\n"));
    let ended = fake.run(&["edit", "web-1", "--imds", "any"]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--keep") && ended.err.contains("--rerun"), "{}", ended.err);
    assert_eq!(fake.run(&["cluster", "cloud-init", "edit"]).await.code, 2);
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn files_are_taken_byte_for_byte_and_named_in_what_is_odd() {
    let (house, store) = (House::new(), store());
    let path = house.work.path().join("web.yaml");
    let path = path.to_str().unwrap();
    fs::write(path, "#cloud-config\npakages: [vim]\n").unwrap();
    let fake = store.serve();
    let odd = format!("warning: {path}: line 2: cloud-init does not know `pakages`\n");
    let dry = fake.run(&["edit", "web-1", "--file", path, "--dry-run"]).await;
    let dry_said = "the cloud-config of web-1 could be taken: nothing is changed\n";
    assert_eq!((dry.code, dry.err), (0, odd.clone() + dry_said));
    assert_eq!(store.user_data(), TEXT);
    let ended = fake.run(&["edit", "web-1", "--file", path, "--imds", "any", "--keep", "-o", "json"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.starts_with(&odd) && ended.out.contains("\"generation\": 8"), "{}{}", ended.err, ended.out);
    assert_eq!(
        (store.user_data().as_str(), &store.kept().documents["imds"]),
        ("#cloud-config\npakages: [vim]\n", &json!("any"))
    );

    let same = fake.run(&["edit", "web-1", "--file", path, "--keep"]).await;
    assert_eq!((same.code, same.err.as_str()), (0, "nothing is changed in the cloud-config of web-1\n"));
    let rerun = fake.run(&["edit", "web-1", "--file", path, "--rerun"]).await;
    assert_eq!((rerun.code, store.kept().taken.clone()), (0, vec![String::new(), "rerun=true".to_owned()]));

    fs::write(path, "#cloud-config\nbroken\n").unwrap();
    let refused = fake.run(&["edit", "web-1", "--file", path, "--keep"]).await;
    assert_eq!(refused.code, 2);
    assert_eq!(refused.err, format!("error: {path}: line 2, column 1: it is not YAML [invalid]\n"));

    store.kept().meanwhile = Some(json!({ "user_data": TEXT }));
    fs::write(path, "#cloud-config\n").unwrap();
    let overtaken = fake.run(&["edit", "web-1", "--file", path, "--keep"]).await;
    assert_eq!((overtaken.code, store.user_data().as_str()), (7, TEXT), "{}", overtaken.err);
    assert!(overtaken.err.contains("+hostname: a\n"), "{}", overtaken.err);
}

#[tokio::test]
async fn what_came_through_a_pipe_is_kept_too() {
    let (house, store) = (House::new(), store());
    let fake = store.serve();
    let mut command = fake.command(&["edit", "web-1", "--file", "-", "--keep"]);
    let mut child = command.env("TMPDIR", house.temporary.path()).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"#cloud-config\nbroken\n").await.unwrap();
    let refused: Ended = child.wait_with_output().await.unwrap().into();
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.starts_with("error: stdin: line 2, column 1"), "{}", refused.err);
    assert_eq!(fs::read_to_string(&house.left()[0]).unwrap(), "#cloud-config\nbroken\n");
    let twice = fake.command(&["edit", "web-1", "--file", "-", "--network-config", "-", "--keep"]);
    assert_eq!(ended(twice).await.err, "error: only one document can be read from stdin\n");
}

#[tokio::test]
async fn the_cluster_s_own_documents_are_shown_and_changed() {
    let (house, store) = (House::new(), Store::new(json!({ "user_data": TEXT })));
    let fake = store.serve();
    assert_eq!(fake.run(&["cluster", "cloud-init", "show", "user-data"]).await.out, TEXT);
    assert!(fake.run(&["cluster", "cloud-init", "show"]).await.out.ends_with("\nvendor-data:\n(none)\n"));
    let path = house.work.path().join("vendor.yaml");
    fs::write(&path, "#cloud-config\npakages: []\n").unwrap();
    let changed = fake.run(&["cluster", "cloud-init", "edit", "--vendor-data", path.to_str().unwrap()]).await;
    assert_eq!(changed.code, 0, "{}", changed.err);
    assert_eq!(store.kept().documents["vendor_data"], "#cloud-config\npakages: []\n");
    assert_eq!(store.user_data(), TEXT);
    let args = ["cluster", "cloud-init", "edit", "vendor-data"];
    let by_hand = fake.on_terminal(&args, "sed -i s/pakages/packages/", "", house.temporary.path()).await;
    assert_eq!(by_hand.code, 0, "{}", by_hand.out);
    assert_eq!(store.kept().documents["vendor_data"], "#cloud-config\npackages: []\n");
}
