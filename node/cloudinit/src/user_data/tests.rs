//! Verdicts on user-data and network-config; and that none of them panics or quotes a secret.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn verdict(result: Result<Checked, CheckError>) -> String {
    match result {
        Ok(Checked { kind, warnings }) => format!("{kind}\n") + &lines(&warnings),
        Err(error) => format!("error: {error}\n"),
    }
}

fn lines(warnings: &[Warning]) -> String {
    let line = |w: &Warning| format!("{}: {}\n", w.line.map_or_else(|| "all".to_owned(), |n| n.to_string()), w.message);
    warnings.iter().map(line).collect()
}

fn says(bytes: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&verdict(check(bytes.as_ref())));
}

fn network(text: &str, expected: Expect) {
    expected.assert_eq(&match check_network_config(text.as_bytes()) {
        Ok(warnings) => format!("good\n{}", lines(&warnings)),
        Err(error) => format!("error: {error}\n"),
    });
}

#[test]
fn every_kind_is_known_by_its_beginning() {
    for (bytes, kind) in [
        (&b"#cloud-config\nusers: []\n"[..], Kind::CloudConfig),
        (b"\n  #Cloud-Config\r\n", Kind::CloudConfig),
        (b"#cloud-config-archive\n- x", Kind::CloudConfigArchive),
        (b"#cloud-config-jsonp\n[]", Kind::CloudConfigJsonPatch),
        (b"#!/bin/sh\ntrue\n", Kind::Script),
        (b"#cloud-boothook\n#!/bin/sh\n", Kind::Boothook),
        (b"#include\nhttp://x/", Kind::Include),
        (b"#include-once http://x/", Kind::Include),
        (b"#part-handler\nimport x\n", Kind::PartHandler),
        (b"## template: jinja\n#cloud-config\n", Kind::Jinja),
        (b"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x--\n", Kind::Multipart),
        // cloud-init looks for MIME before anything else, anywhere near the beginning.
        (b"#cloud-config\nwrite_files:\n- content: 'mime-version: 1.0'\n", Kind::Multipart),
        (&[0x1f, 0x8b, 8, 0, 255], Kind::Gzip),
        (b"hello", Kind::Unknown),
        (b"# cloud-config\n", Kind::Unknown),
        (b"", Kind::Unknown),
    ] {
        assert_eq!(Kind::of(bytes), kind, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_good_cloud_config_is_good_with_either_line_ending() {
    let text = "#cloud-config\nusers:\n- default\n- {name: bob, ssh_authorized_keys: [a]}\nruncmd:\n- [ls, -l]\n";
    says(
        text,
        expect![[r#"
        cloud-config
    "#]],
    );
    says(
        text.replace('\n', "\r\n"),
        expect![[r#"
        cloud-config
    "#]],
    );
    says(
        "#cloud-config\n{\"runcmd\": [\"ls\"]}",
        expect![[r#"
        cloud-config
    "#]],
    );
    says(
        "#cloud-config\nx-base: &b {name: a}\nusers:\n- <<: *b\n  <<: *b\n",
        expect![[r#"
        cloud-config
        2: cloud-init does not know the key `x-base`
    "#]],
    );
}

#[test]
fn what_cloud_init_would_ignore_is_refused_with_the_remedy() {
    says(
        "",
        expect![[r#"
        error: it is empty; leave it out, or begin with #cloud-config or #!
    "#]],
    );
    says(
        "runcmd:\n- ls\n",
        expect![[r#"
        error: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; it looks like cloud-config: make the first line exactly #cloud-config
    "#]],
    );
    says(
        "# cloud-config\nfoo: 1\n",
        expect![[r#"
        error: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; it looks like cloud-config: make the first line exactly #cloud-config
    "#]],
    );
    says(
        "echo hello\n",
        expect![[r#"
        error: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; make the first line #cloud-config for YAML, or #!/bin/sh for a script
    "#]],
    );
    says(
        "\u{feff}#cloud-config\n",
        expect![[r#"
        error: line 1: it begins with a byte order mark, behind which cloud-init does not see the first line; save it as UTF-8 without one
    "#]],
    );
    says(
        b"#cloud-config\nhostname: a\n# \xff\n",
        expect![[r#"
        error: line 3: it is not UTF-8; save it as UTF-8, or compress it with gzip
    "#]],
    );
    says(
        "#!".repeat(40_000),
        expect![[r#"
        error: it has 80000 bytes; at most 65536 are allowed. Let it fetch what is large, by #include or from a script
    "#]],
    );
}

#[test]
fn yaml_errors_have_their_place() {
    says(
        "#cloud-config\nusers:\n  - name: bob\n passwd: hunter2\n",
        expect![[r#"
        error: line 4, column 2: it is not YAML: while parsing a block mapping, did not find expected key
    "#]],
    );
    says(
        "#cloud-config\nruncmd:\n\t- ls\n",
        expect![[r#"
            error: line 3, column 1: it is not YAML: a tab; use spaces, cloud-init allows tabs only in quotes and in blocks of text
        "#]],
    );
    says(
        "#cloud-config\nruncmd: [ls, -l\nusers: []\n",
        expect![[r#"
        error: line 3, column 6: it is not YAML: illegal placement of ':' indicator
    "#]],
    );
    says(
        "#cloud-config\npassword: \"hunter2\n",
        expect![[r#"
            error: line 3, column 1: it is not YAML: a quote before this is not closed
        "#]],
    );
    says(
        "#cloud-config\npassword: hunter2: x\n",
        expect![[r#"
        error: line 2, column 18: it is not YAML: mapping values are not allowed in this context
    "#]],
    );
    says(
        "#cloud-config\nusers: *nobody\n",
        expect![[r#"
        error: line 2, column 8: it is not YAML: while parsing node, found unknown anchor
    "#]],
    );
    says(
        "#cloud-config\nusers: []\n---\nusers: []\n",
        expect![[r#"
        error: line 3, column 1: it is not YAML: a second document begins here; cloud-init reads one
    "#]],
    );
    says(
        "#cloud-config\nfqdn: a\u{7}b\n",
        expect![[r#"
        error: line 2, column 8: it is not YAML: a control character that YAML does not allow
    "#]],
    );
    says(
        format!("#cloud-config\nusers: {}", "[".repeat(500)),
        expect![[r#"
        error: line 2, column 263: it is not YAML: recursion limit exceeded
    "#]],
    );
}

#[test]
fn tags_are_those_that_cloud_init_reads() {
    says(
        "#cloud-config\npassword: !!str 123\nruncmd: !!seq [a]\nhostname: ! a\nlocale: !<tag:yaml.org,2002:str> a\n",
        expect![[r#"
            cloud-config
        "#]],
    );
    says(
        "#cloud-config\npassword: !secret hunter2\n",
        expect![[r#"
            error: line 2, column 11: it is not YAML: a tag that cloud-init does not know
        "#]],
    );
    says(
        "#cloud-config\npassword: !!python/object:os.system {}\n",
        expect![[r#"
            error: line 2, column 11: it is not YAML: a tag that cloud-init does not know
        "#]],
    );
}

#[test]
fn networks_are_configured_elsewhere() {
    says(
        "#cloud-config\nnetwork: {version: 2}\n",
        expect![[r#"
        cloud-config
        2: cloud-init ignores the key `network` in user-data; give it as network-config
    "#]],
    );
    says(
        "network: {version: 2}\n",
        expect![[r#"
        error: line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; it looks like a network-config, which is a document of its own
    "#]],
    );
}

#[test]
fn a_long_text_in_quotes_is_to_be_a_block() {
    says(
        format!("#cloud-config\nlocale: \"{}\"\n", "a\n".repeat(90)),
        expect![[r#"
        cloud-config
    "#]],
    );
    says(
        format!("#cloud-config\nlocale: \"{}\"\n", "a\n".repeat(300)),
        expect![[r#"
        error: line 103, column 1: it is not YAML: a text in quotes goes on without indentation for too long; use a block of text (|)
    "#]],
    );
}

/// As PyYAML reads them.
#[test]
fn tabs_are_for_texts_only() {
    says(
        "#cloud-config\nfinal_message: | # first\n  a\tb\n  \tc\nlocale: \"a\tb\" # c\td\n#\te\n",
        expect![[r#"
        cloud-config
    "#]],
    );
    says(
        "#cloud-config\nlocale:\tde\n",
        expect![[r#"
        error: line 2, column 8: it is not YAML: a tab; use spaces, cloud-init allows tabs only in quotes and in blocks of text
    "#]],
    );
    says(
        "#cloud-config\nlocale: d\te\n",
        expect![[r#"
        error: line 2, column 10: it is not YAML: a tab; use spaces, cloud-init allows tabs only in quotes and in blocks of text
    "#]],
    );
}

/// As PyYAML reads it, and YAML's own rule does not.
#[test]
fn what_is_in_quotes_need_not_be_indented() {
    let text = "#cloud-config\nwrite_files:\n- path: /a\n  content: \"one\ntwo\nthree\"\nrun_cmd: []\n";
    says(
        text,
        expect![[r#"
        cloud-config
        7: cloud-init does not know the key `run_cmd`; did you mean `runcmd`?
    "#]],
    );
    says(
        text.replace("three\"", "three\" x"),
        expect![[r#"
        error: line 6, column 8: it is not YAML: invalid trailing content after double-quoted scalar
    "#]],
    );
    says(
        text.replace("three\"", "three"),
        expect![[r#"
        error: line 5, column 1: it is not YAML: a quote before this is not closed
    "#]],
    );
}

#[test]
fn a_cloud_config_has_keys() {
    says(
        "#cloud-config\n- a\n",
        expect![[r#"
            error: line 2: a cloud-config must have keys with values
        "#]],
    );
    says(
        "#cloud-config\nhunter2\n",
        expect![[r#"
            error: line 2: a cloud-config must have keys with values
        "#]],
    );
    says(
        "#cloud-config\n# nothing yet\n",
        expect![[r#"
        cloud-config
        all: it is empty; cloud-init does nothing
    "#]],
    );
}

#[test]
fn slips_are_warnings() {
    says(
        "#cloud-config\nrun_cmd: [ls]\npakages: [a]\nusers: []\nusers: [a]\nfoo bar hunter2: 1\nssh:\n  a: 1\n  b: 2\n  a: 3\n",
        expect![[r#"
            cloud-config
            2: cloud-init does not know the key `run_cmd`; did you mean `runcmd`?
            3: cloud-init does not know the key `pakages`; did you mean `packages`?
            5: the key `users` is on line 4 already; cloud-init keeps only the last
            6: cloud-init does not know this key
            10: the key `a` is on line 8 already; cloud-init keeps only the last
        "#]],
    );
}

#[test]
fn the_other_kinds_are_looked_at_as_far_as_they_go() {
    says(
        "#cloud-config-archive\n- type: text/x-shellscript\n  content: x\n- a\n",
        expect![[r#"
        cloud-config archive
    "#]],
    );
    says(
        "#cloud-config-archive\ntype: x\n",
        expect![[r#"
        error: line 2: a cloud-config archive must be a list of parts
    "#]],
    );
    says(
        "#cloud-config-jsonp\n[{\"op\": \"add\"}]\n",
        expect![[r#"
        cloud-config JSON patch
    "#]],
    );
    says(
        "#cloud-config-jsonp\n[{\"op\": \"add\"},]\n",
        expect![[r#"
        error: line 2, column 16: it is not JSON
    "#]],
    );
    says(
        "#cloud-config-jsonp\n{}\n",
        expect![[r#"
        error: line 2: a JSON patch must be a list of operations
    "#]],
    );
    says(
        "#include\n# from the mirror\nhttps://10.77.0.1/base\n\nbase.txt\n",
        expect![[r#"
        include
        5: this is not a URL; cloud-init reads one URL on each line
    "#]],
    );
    says(
        "#include\n",
        expect![[r#"
        include
        all: it includes nothing: no line has a URL
    "#]],
    );
    says(
        "## template: jinja\n#cloud-config\nhostname: a\nrun_cmd: []\n",
        expect![[r#"
        Jinja template
        4: cloud-init does not know the key `run_cmd`; did you mean `runcmd`?
    "#]],
    );
    says(
        "## template: jinja\n#cloud-config\n{% if x %}\nhostname: {{ v1.x }}\n{% endif %}\n",
        expect![[r#"
        Jinja template
    "#]],
    );
    says(
        "## template: jinja\nhostname: a\n",
        expect![[r#"
        Jinja template
        all: what follows the template's first line does not say what it is; cloud-init ignores a template that renders to nothing it knows
    "#]],
    );
    says(
        [0x1f, 0x8b, 8, 0, 255],
        expect![[r#"
        compressed by gzip
        all: it is compressed, so nobody has looked into it; a MIME multipart in it is not merged with the cluster's default user-data
    "#]],
    );
    says(
        "#!/bin/sh\r\nls\r\n",
        expect![[r#"
        script
    "#]],
    );
}

#[test]
fn a_network_config_is_of_one_of_two_versions() {
    network(
        "version: 2\nethernets:\n  eth0: {dhcp4: true}\n",
        expect![[r#"
        good
    "#]],
    );
    network(
        "network:\n  version: 1\n  config:\n  - type: physical\n    name: eth0\n",
        expect![[r#"
        good
    "#]],
    );
    network(
        "network: {config: disabled}\n",
        expect![[r#"
        good
    "#]],
    );
    network(
        "version: 1\n",
        expect![[r#"
            error: line 1: a network-config of version 1 must have a list under `config`
        "#]],
    );
    network(
        "version: 3\nethernets: {}\n",
        expect![[r#"
        error: line 1: `version` must be 1 or 2
    "#]],
    );
    network(
        "ethernets: {}\n",
        expect![[r#"
            error: line 1: a network-config must have a `version`, 1 or 2
        "#]],
    );
    network(
        "network: []\n",
        expect![[r#"
            error: line 1: `network` must have keys with values, `version` among them
        "#]],
    );
    network(
        "- version: 2\n",
        expect![[r#"
            error: line 1: a network-config must have keys with values, `version` among them
        "#]],
    );
    network(
        "version: 2\nethernets:\n  eth0: {dhcp4: true\n",
        expect![[r#"
        error: line 3, column 9: it is not YAML: unclosed bracket '{'
    "#]],
    );
    network(
        "version: 2\nversion: 2\n",
        expect![[r#"
        good
        2: the key `version` is on line 1 already; cloud-init keeps only the last
    "#]],
    );
}

#[test]
fn errors_name_their_line_and_column() {
    let error = check(b"#cloud-config\na: b: c\n").unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(2), Some(5)));
    let error = check_network_config(b"a: 1\n").unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(1), None));
    assert_eq!(check(b"").unwrap_err().line(), None);
}

const BEGINNINGS: [&str; 7] = [
    "#cloud-config\n",
    "#cloud-config-archive\n",
    "#cloud-config-jsonp\n",
    "## template: jinja\n",
    "#include\n",
    "#!",
    "",
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic(beginning in 0..BEGINNINGS.len(), rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [BEGINNINGS[beginning].as_bytes(), &rest].concat();
        let _ = check(&bytes);
        let _ = check_network_config(&rest);
    }

    /// Text of YAML's own characters gets further into the parser than bytes do.
    #[test]
    fn nothing_like_yaml_makes_it_panic(text in "[-:?,\\[\\]{}#&*!|>'\"%@` \t\r\na-c0-2\u{85}\u{2028}é]{0,200}") {
        let _ = check(format!("#cloud-config\n{text}").as_bytes());
        let _ = check(format!("## template: jinja\n#cloud-config\n{text}").as_bytes());
        let _ = check_network_config(text.as_bytes());
    }

    /// What stands in a value, or in anything that does not look like a key, is in no message.
    #[test]
    fn nothing_secret_is_quoted(before in "[-:?,\\[\\]{}&*!|>'\"% \na-c]{0,40}", after in "[-:,\\[\\]{}'\" \na-c]{0,40}") {
        for secret in ["S3CRET/hunter2", "S3CRET hunter2"] {
            let text = format!("#cloud-config\n{before}{secret}{after}\n");
            prop_assert!(!verdict(check(text.as_bytes())).contains("S3CRET"));
            let network = format!("{:?}", check_network_config(text.as_bytes()));
            prop_assert!(!network.contains("S3CRET"));
        }
    }
}
