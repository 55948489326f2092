//! The reader is asked for all mistakes at once, for the weight of each source, and for an example that holds.

use super::*;
use expect_test::{Expect, expect};
use std::path::Path;

fn check(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)], expected: &Expect) {
    let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let flags = flags
        .iter()
        .map(|(flag, text)| Given {
            key: KEYS.iter().find(|k| k.flag() == *flag).unwrap(),
            place: Place::Flag((*flag).to_owned()),
            text: (*text).to_owned(),
        })
        .collect();
    let said = match parse(Path::new("waifud.toml"), text, Given::from_variables(lookup), flags) {
        Ok(config) => format!("{config:#?}\n"),
        Err(errors) => errors.iter().map(|e| format!("{e}\n")).collect(),
    };
    expected.assert_eq(&said);
}

#[test]
fn every_mistake_is_named_at_once() {
    let text = r#"
[node]
memroy = "4G"
memory = "lots"
cpus = -1
data_dir = "relative/path"

[api]
listen = "7443"

[hypervisor]
shutdown_grace = "soon"

[nodes]
x = 1

[network]
cidr = "10.77.0.0"
mtu = 12
no_masquerade = "192.168.0.0/16"
"#;
    check(
        text,
        &[("WAIFUD_NODE_DISK", "big"), ("WAIFUD_OTHER", "left alone")],
        &[("listen", "nowhere")],
        &expect![[r#"
            waifud.toml:3: [node] has no key "memroy"; did you mean "memory"?
            waifud.toml:4: [node] memory: "lots" is not a size; write a number with K, M, G or T, for example 512M or 10G
            waifud.toml:5: [node] cpus: "-1" is not a number of CPUs
            waifud.toml:6: [node] data_dir: "relative/path" is not an absolute path
            waifud.toml:9: [api] listen: "7443" is not an address with a port, for example 0.0.0.0:7443
            waifud.toml:12: [hypervisor] shutdown_grace: "soon" is not a time, for example 500ms, 30s or 10min
            waifud.toml:14: there is no section [nodes]; did you mean "node"?
            waifud.toml:18: [network] cidr: "10.77.0.0" is not a network, for example 10.77.0.0/16
            waifud.toml:19: [network] mtu: 12 is outside 576 to 9216
            waifud.toml:20: [network] no_masquerade: expected an array, for example ["CIDR"]
            WAIFUD_NODE_DISK: "big" is not a size; write a number with K, M, G or T, for example 512M or 10G
            --listen: "nowhere" is not an address with a port, for example 0.0.0.0:7443
        "#]],
    );
}

#[test]
fn a_broken_file_is_said_with_its_line() {
    check(
        "[node]\nname = \"n1\n",
        &[],
        &[],
        &expect![[r#"
        waifud.toml:2: invalid basic string, expected `"`
    "#]],
    );
}

#[test]
fn contradictions_are_found() {
    let text = "[api]\ntls_cert = \"/a\"\n[cluster]\nheartbeat = \"1s\"\n[network]\ncidr = \"8.8.0.0/16\"\n[node]\nadvertise = \"0.0.0.0:7443\"\n";
    check(
        text,
        &[],
        &[],
        &expect![[r#"
        configuration: [api] tls_cert and tls_key must be given together
        configuration: [cluster] election_max must be at least twice the heartbeat, or every lost packet makes an election
        configuration: [network] cidr: 8.8.0.0/16 is not for private use; take a network within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16
        configuration: [node] advertise must be an address and port that peers can reach, not 0.0.0.0 or port 0
    "#]],
    );
}

#[test]
fn flags_weigh_more_than_variables_and_those_more_than_the_file() {
    let read = |variables: &[(&str, &str)], flags: &[(&str, &str)]| {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let flags = flags
            .iter()
            .map(|(flag, text)| Given {
                key: KEYS.iter().find(|k| k.flag() == *flag).unwrap(),
                place: Place::Flag((*flag).to_owned()),
                text: (*text).to_owned(),
            })
            .collect();
        parse(Path::new("f"), "[node]\nname = \"file\"\n", Given::from_variables(lookup), flags)
            .unwrap()
            .node
            .name
            .unwrap()
    };
    assert_eq!(read(&[], &[]).as_str(), "file");
    assert_eq!(read(&[("WAIFUD_NODE_NAME", "variable")], &[]).as_str(), "variable");
    assert_eq!(read(&[("WAIFUD_NODE_NAME", "variable")], &[("name", "flag")]).as_str(), "flag");
}

#[test]
fn lists_take_commas_outside_of_the_file() {
    let lookup =
        |name: &str| (name == "WAIFUD_NETWORK_NO_MASQUERADE").then(|| "192.168.0.0/16, 172.16.0.0/12".to_owned());
    let config = parse(Path::new("f"), "", Given::from_variables(lookup), Vec::new()).unwrap();
    assert_eq!(config.network.no_masquerade.len(), 2);
}

/// The example shows every setting with its default, so that it can be used as it is.
#[test]
fn the_example_file_is_the_default_configuration() {
    let example = include_str!("../../docs/waifud.example.toml");
    let uncommented: String = example
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    for key in KEYS {
        assert!(
            uncommented.lines().any(|line| line.starts_with(&format!("{} = ", key.name))),
            "{} is missing in the example",
            key.path()
        );
    }
    assert_eq!(parse(Path::new("example"), example, Vec::new(), Vec::new()), Ok(Config::default()));
    parse(Path::new("example"), &uncommented, Vec::new(), Vec::new()).unwrap();
}

#[test]
fn flags_and_variables_have_names_of_their_own() {
    let mut flags: Vec<_> = KEYS.iter().map(Key::flag).collect();
    flags.sort();
    flags.dedup();
    assert_eq!(flags.len(), KEYS.len());
    assert_eq!(KEYS[1].flag(), "data-dir");
    assert_eq!(KEYS[1].variable(), "WAIFUD_NODE_DATA_DIR");
}
