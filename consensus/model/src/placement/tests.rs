//! Tests of placement: who is chosen, why the others are not, and that no choice overbooks or depends on order.

use super::*;
use proptest::{collection::vec, prelude::*};

fn node(name: &str, memory_gib: u64, used_gib: u64) -> Candidate {
    Candidate {
        id: NodeId::from_random(name.bytes().fold(7, |n, b| n * 31 + u64::from(b))),
        name: NodeName::new(name).unwrap(),
        alive: true,
        cordoned: false,
        capacity: Capacity {
            cpus: 32,
            threads: 8,
            memory: ByteSize::gib(memory_gib),
            disk: ByteSize::gib(500),
            arch: Arch::X86_64,
            kvm: true,
            bridges: Vec::new(),
        },
        reserved: Reserved { cpus: used_gib, memory: ByteSize::gib(used_gib), disk: ByteSize::gib(10), vms: 1 },
        labels: Labels::default(),
        has_template: false,
        group_count: 0,
    }
}

fn small() -> Request {
    Request {
        cpus: 2,
        memory: ByteSize::gib(2),
        disk: ByteSize::gib(10),
        arch: None,
        pin: None,
        node_labels: Labels::default(),
        bridges: Vec::new(),
        spread: Spread::Prefer,
    }
}

fn chosen(request: &Request, candidates: &[Candidate]) -> (String, String) {
    let decision = place(request, candidates).unwrap();
    (decision.name.to_string(), decision.reason)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect::<std::collections::BTreeMap<_, _>>()
        .try_into()
        .unwrap()
}

#[test]
fn the_freest_node_takes_it() {
    let nodes = [node("a", 16, 8), node("b", 16, 2), node("c", 16, 4)];
    assert_eq!(chosen(&small(), &nodes), ("b".into(), "most free memory of 3 nodes".into()));
}

#[test]
fn equals_are_told_apart_by_name() {
    let nodes = [node("c", 16, 2), node("a", 16, 2), node("b", 16, 2)];
    assert_eq!(chosen(&small(), &nodes), ("a".into(), "first by name of 3 nodes".into()));
}

#[test]
fn a_template_decides_between_about_equals_only() {
    let here = |candidate: Candidate| Candidate { has_template: true, ..candidate };
    let nodes = [node("a", 16, 2), here(node("b", 16, 3))];
    assert_eq!(chosen(&small(), &nodes), ("b".into(), "the template is there already, best of 2 nodes".into()));
    let nodes = [node("a", 16, 2), here(node("b", 16, 12))];
    assert_eq!(chosen(&small(), &nodes).0, "a");
}

#[test]
fn groups_spread_while_they_can() {
    let member = |count, candidate: Candidate| Candidate { group_count: count, ..candidate };
    let nodes = [member(1, node("a", 64, 0)), member(0, node("b", 16, 12))];
    assert_eq!(chosen(&small(), &nodes), ("b".into(), "fewest VMs of the group of 2 nodes".into()));
    let nodes = [member(1, node("a", 64, 0)), member(2, node("b", 16, 12))];
    assert_eq!(chosen(&small(), &nodes).0, "a");
    let strict = Request { spread: Spread::Require, ..small() };
    assert_eq!(
        place(&strict, &nodes).unwrap_err().to_string(),
        "no node can take it: a has a VM of the same group; b has 2 VMs of the same group"
    );
}

#[test]
fn a_pin_is_kept_to() {
    let nodes = [node("a", 16, 8), node("b", 16, 2)];
    let pinned = Request { pin: Some(NodeName::new("a").unwrap()), ..small() };
    assert_eq!(chosen(&pinned, &nodes), ("a".into(), "the node that was asked for".into()));
    let lost = Request { pin: Some(NodeName::new("z").unwrap()), ..small() };
    assert_eq!(place(&lost, &nodes).unwrap_err().to_string(), "there is no node z");
    assert_eq!(place(&lost, &[]), Err(Refusal::NoNodes));
}

#[test]
fn the_last_one_standing_is_said_to_be() {
    let nodes = [Candidate { cordoned: true, ..node("a", 16, 0) }, node("b", 16, 2)];
    let decision = place(&small(), &nodes).unwrap();
    assert_eq!(decision.reason, "the only one of 2 nodes that fits");
    assert_eq!(decision.rejected, [(NodeName::new("a").unwrap(), Why::Cordoned)]);
    assert_eq!(chosen(&small(), &nodes[1..]).1, "the only node");
}

#[test]
fn a_refusal_says_for_each_node_why() {
    let nodes = [
        node("full", 16, 15),
        Candidate { alive: false, ..node("dead", 16, 0) },
        Candidate { cordoned: true, ..node("cordoned", 16, 0) },
        Candidate { capacity: Capacity { arch: Arch::Aarch64, ..node("x", 16, 0).capacity }, ..node("arm", 16, 0) },
        Candidate { labels: labels(&[("disk", "nvme")]), ..node("labelled", 2, 1) },
        Candidate {
            labels: labels(&[("disk", "nvme")]),
            capacity: Capacity { threads: 1, ..node("x", 16, 0).capacity },
            ..node("thin", 16, 0)
        },
    ];
    let request = Request {
        arch: Some(Arch::X86_64),
        node_labels: labels(&[("disk", "nvme")]),
        disk: ByteSize::gib(495),
        ..small()
    };
    expect_test::expect![[r#"
        no node can take it
        arm is aarch64, the image is for x86_64
        cordoned is cordoned
        dead is not reachable
        full has no label disk=nvme
        labelled has 1 GiB of memory left to promise, 2 GiB are wanted, has 490 GiB of disk left to promise, 495 GiB are wanted
        thin has 1 CPU threads, one VM cannot have 2 CPUs there"#]]
    .assert_eq(&place(&request, &nodes).unwrap_err().to_string().replace(": ", "\n").replace("; ", "\n"));
}

prop_compose! {
    fn candidates()(rows in vec((1..64_u64, 0..64_u64, 0..40_u64, any::<[bool; 3]>(), 0..3_u32), 0..7)) -> Vec<Candidate> {
        rows.into_iter().enumerate().map(|(n, (memory, used, cpus, [alive, cordoned, has_template], group_count))| {
            let reserved = Reserved { cpus, memory: ByteSize::gib(used), disk: ByteSize::gib(used * 8), vms: 0 };
            Candidate { alive, cordoned, has_template, group_count, reserved, ..node(&format!("n{n}"), memory, 0) }
        }).collect()
    }
}

prop_compose! {
    fn requests()(cpus in 1..10_u32, memory in 1..40_u64, disk in 1..400_u64, strict: bool) -> Request {
        let spread = if strict { Spread::Require } else { Spread::Prefer };
        Request { cpus, memory: ByteSize::gib(memory), disk: ByteSize::gib(disk), spread, ..small() }
    }
}

proptest! {
    /// The chosen node can take it, every other is either worse or named with its reason, and no order of the candidates changes that.
    #[test]
    fn decisions_are_sound_and_do_not_depend_on_order(
        (request, nodes, shuffled) in (requests(), candidates())
            .prop_flat_map(|(request, nodes)| (Just(request), Just(nodes.clone()), Just(nodes).prop_shuffle()))
    ) {
        let decision = place(&request, &nodes);
        prop_assert_eq!(&decision, &place(&request, &shuffled));
        let fits = |c: &Candidate| c.alive && !c.cordoned && request.cpus <= c.capacity.threads
            && (request.spread == Spread::Prefer || c.group_count == 0)
            && c.reserved.cpus + u64::from(request.cpus) <= u64::from(c.capacity.cpus)
            && c.reserved.memory + request.memory <= c.capacity.memory
            && c.reserved.disk + request.disk <= c.capacity.disk;
        let unfit = nodes.iter().filter(|c| !fits(c)).count();
        match decision {
            Ok(decision) => {
                let winner = nodes.iter().find(|c| c.id == decision.node).unwrap();
                prop_assert!(fits(winner));
                prop_assert_eq!(decision.rejected.len(), unfit);
                prop_assert!(nodes.iter().filter(|c| fits(c)).all(|c| c.group_count >= winner.group_count));
            }
            Err(Refusal::NoneFits(rejected)) => {
                prop_assert_eq!(unfit, nodes.len());
                prop_assert_eq!(rejected.len(), nodes.len());
                prop_assert!(rejected.windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
            Err(refusal) => prop_assert!(nodes.is_empty(), "{}", refusal),
        }
    }

    /// What fits by the rule that apply shares never brings a node over what it has.
    #[test]
    fn nothing_short_means_nothing_overbooked(request in requests(), mut nodes in candidates()) {
        for c in &mut nodes {
            let short = shortages(&c.capacity, &c.reserved, request.cpus, request.memory, request.disk);
            let after = c.reserved.and(request.cpus, request.memory, request.disk);
            let over = after.cpus > u64::from(c.capacity.cpus)
                || after.memory > c.capacity.memory
                || after.disk > c.capacity.disk;
            prop_assert_eq!(over, !short.is_empty());
        }
    }
}
