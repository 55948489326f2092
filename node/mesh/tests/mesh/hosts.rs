//! Rules, routes and the link: what is ours is brought about and taken away, what is not is not touched.

use waifud_mesh::{UserspaceMesh, host};

use crate::lab::{Host, Wire, interface, try_run};

fn ensure(on: &Host, routing: host::Routing) -> usize {
    on.space.block_on(async move || host::ensure(&routing).await.unwrap().len())
}

#[test]
fn ensure_is_idempotent_and_puts_right_what_was_bent() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_mesh, _link) = a.start(&[&b]);
    assert_eq!(ensure(&a, a.routing(&[&b])), 0);

    let rules = a.space.ip("rule");
    assert!(rules.contains("5199:\tfrom all to 169.254.169.254 iif waifubr0 lookup 7744 proto 74"), "{rules}");
    assert!(rules.contains("5200:\tfrom all to 10.77.0.0/16 lookup 7744 proto 74"), "{rules}");
    let routes = a.space.ip("route show table 7744");
    assert!(routes.contains("169.254.169.254 dev waifu0"), "{routes}");
    assert!(routes.contains("10.77.2.0/24 dev waifu0 proto 74 scope link src 10.77.1.1"), "{routes}");
    let link = a.space.ip("-d link show waifu0");
    assert!(link.contains("mtu 1420") && link.contains(",UP") && link.contains("persist on"), "{link}");
    assert_eq!(a.space.ip("-o addr show dev waifu0"), "", "no address");

    a.space.ip("rule del pref 5199");
    a.space.ip("route replace 10.77.2.0/24 dev e0 proto 74 table 7744");
    a.space.ip("link set waifu0 down mtu 9000");
    assert!(ensure(&a, a.routing(&[&b])) >= 2);
    assert_eq!(ensure(&a, a.routing(&[&b])), 0);
    assert!(a.space.ip("route get 10.77.2.9").contains("dev waifu0"));
    assert!(a.space.ip("link show waifu0").contains("mtu 1420"));
}

#[test]
fn the_own_subnet_is_the_bridges_and_so_is_a_visiting_guest() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    let (_mesh, _link) = a.start(&[&b]);
    assert!(a.space.ip("route get 10.77.1.9").contains("dev waifubr0"));
    assert!(a.space.ip("route get 10.77.2.9").contains("dev waifu0 table 7744 src 10.77.1.1"));
    // A guest of the other's subnet runs here, and one of ours runs there.
    let mut routing = a.routing(&[&b]);
    routing.local.push("10.77.2.9/32".parse().unwrap());
    routing.remote.push("10.77.1.9/32".parse().unwrap());
    assert_eq!(ensure(&a, routing), 2);
    a.space.ip("route add 10.77.2.9/32 dev waifubr0");
    assert!(a.space.ip("route get 10.77.2.9").contains("dev waifubr0"));
    assert!(a.space.ip("route get 10.77.2.10").contains("dev waifu0"));
    assert!(a.space.ip("route get 10.77.1.9").contains("dev waifu0"));
    assert!(a.space.ip("route get 10.77.1.10").contains("dev waifubr0"));
}

#[test]
fn what_is_stale_goes_and_what_is_not_ours_stays() {
    let wire = Wire::new();
    let (a, b, c) = (Host::new(&wire, 1), Host::new(&wire, 2), Host::new(&wire, 3));
    let (_mesh, _link) = a.start(&[&b, &c]);
    // Somebody else's, in the same table and beside it.
    a.space.ip("route add 192.0.2.128/25 dev e0 table 7744");
    a.space.ip("rule add to 198.51.100.0/24 lookup 7744 pref 6000");
    assert_eq!(ensure(&a, a.routing(&[&c])), 1);
    let routes = a.space.ip("route show table 7744");
    assert!(!routes.contains("10.77.2.0/24") && routes.contains("10.77.3.0/24"), "{routes}");

    a.space.block_on(async || host::remove("waifu0").await.unwrap());
    assert_eq!(a.space.ip("route show table 7744").trim(), "192.0.2.128/25 dev e0 scope link");
    let rules = a.space.ip("rule");
    assert!(rules.contains("6000:") && !rules.contains("proto 74"), "{rules}");
    let links = a.space.ip("-o link");
    assert!(!links.contains("waifu0") && links.contains("waifubr0"), "{links}");
    // What is gone can be removed again.
    a.space.block_on(async || host::remove("waifu0").await.unwrap());
}

#[test]
fn an_interface_of_that_name_that_is_not_ours_is_left_alone() {
    let wire = Wire::new();
    let a = Host::new(&wire, 1);
    a.space.ip("link add waifu0 type bridge");
    let config = a.config(&[]);
    let error =
        a.space.block_on(async move || UserspaceMesh::start(&interface(), &config).await.map(|_| ()).unwrap_err());
    assert!(error.to_string().contains("not ours"), "{error}");
    a.space.block_on(async || host::remove("waifu0").await.unwrap());
    assert!(a.space.ip("-o link").contains("waifu0"));
}

#[test]
fn routes_into_a_cluster_without_the_bridge_are_tried_and_said() {
    let wire = Wire::new();
    let (a, b) = (Host::new(&wire, 1), Host::new(&wire, 2));
    a.space.ip("link del waifubr0");
    let (config, routing) = (a.config(&[&b]), a.routing(&[&b]));
    let (error, rules) = a.space.block_on(async move || {
        let (_mesh, _link) = UserspaceMesh::start(&interface(), &config).await.unwrap();
        let error = host::ensure(&routing).await.unwrap_err().to_string();
        (error, ())
    });
    let () = rules;
    assert!(error.contains("10.77.2.0/24"), "{error}");
    // What could be done was done.
    assert!(a.space.ip("rule").contains("5199:"));
    assert!(try_run(&["true"]).status.success());
}

#[test]
fn asking_the_kernel_for_wireguard_leaves_nothing_behind() {
    let wire = Wire::new();
    let a = Host::new(&wire, 1);
    let has = a.space.block_on(waifud_mesh::kernel_available);
    println!("WireGuard in this kernel: {has}");
    assert!(!a.space.ip("-o link").contains("wgp"));
}
