//! The network.

use crate::output::{Cell, Column, Look, Row, Tone};
use std::net::IpAddr;
use waifud_api::net::{Net, NetPeer, NodeNet};

impl Row for NodeNet {
    const COLUMNS: &'static [Column] = &[
        Column::text("NODE"),
        Column::text("SUBNET"),
        Column::text("GATEWAY"),
        Column::text("ADDRESS"),
        Column::text("MESH"),
        Column::wide("KEY"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let end = match &self.mesh {
            Some(end) => end.endpoint.to_string().into(),
            None if look.human => Cell { text: "not yet".to_owned(), tone: Tone::Warn },
            None => "-".into(),
        };
        vec![
            self.node.to_string().into(),
            self.subnet.to_string().into(),
            self.gateway.to_string().into(),
            self.address.to_string().into(),
            end,
            self.mesh.map_or_else(|| "-".to_owned(), |end| end.key.to_string()).into(),
        ]
    }

    fn name(&self) -> String {
        self.node.to_string()
    }
}

impl Row for NetPeer {
    const COLUMNS: &'static [Column] =
        &[Column::text("NAME"), Column::text("IP"), Column::text("CREATED"), Column::text("KEY")];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.name.to_string().into(),
            self.ip.to_string().into(),
            look.since(Some(self.created_at)).into(),
            self.key.to_string().into(),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// What a router of a plain LAN is to be told, as a Linux one takes it; and the nodes no other machine can reach where they
/// say they are.
pub(crate) fn routes(net: &Net) -> (String, Vec<&NodeNet>) {
    let (near, far): (Vec<_>, Vec<_>) = net.nodes.iter().partition(|node| node.address.is_loopback());
    let route = |node: &&NodeNet| match node.address {
        IpAddr::V4(via) => format!("ip route add {} via {via}\n", node.subnet),
        // An IPv4 subnet behind an IPv6 neighbour (RFC 5549; Linux 5.2).
        IpAddr::V6(via) => format!("ip route add {} via inet6 {via}\n", node.subnet),
    };
    (far.iter().map(route).collect(), near)
}

/// Where everything is, in a sentence: for a person, beside the list.
pub(crate) fn summary(net: &Net) -> String {
    let peers = match net.peers_subnet {
        Some(subnet) => format!("machines that are no nodes in {subnet}"),
        None => "no place for machines that are no nodes".to_owned(),
    };
    format!("VMs are in {}, {peers}, names in {}", net.cidr, net.domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Format, Out, Terminal},
        peer::tests::net,
        views::vm::tests::look,
    };
    use expect_test::expect;

    #[test]
    fn the_network_in_a_list() {
        let shown = |format, human| {
            let out = Out::of(format, look(human), Terminal { out: human, ..Terminal::default() });
            out.list_text(&net().nodes).unwrap()
        };
        expect![[r#"
            NODE  SUBNET        GATEWAY    ADDRESS       MESH
            n1    10.77.1.0/24  10.77.1.1  192.168.1.11  192.168.1.11:7444
            n2    10.77.2.0/24  10.77.2.1  2001:db8::2   [2001:db8::2]:7444
            n3    10.77.3.0/24  10.77.3.1  192.168.1.13  not yet
        "#]]
        .assert_eq(&shown(None, true));
        expect![[r#"
            node,subnet,gateway,address,mesh,key
            n1,10.77.1.0/24,10.77.1.1,192.168.1.11,192.168.1.11:7444,BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
            n2,10.77.2.0/24,10.77.2.1,2001:db8::2,[2001:db8::2]:7444,CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=
            n3,10.77.3.0/24,10.77.3.1,192.168.1.13,-,-
        "#]]
        .assert_eq(&shown(Some(Format::Csv), false).replace('\r', ""));
        expect!["VMs are in 10.77.0.0/16, machines that are no nodes in 10.77.255.0/24, names in waifu.internal"]
            .assert_eq(&summary(&net()));
    }

    #[test]
    fn routes_for_a_plain_lan() {
        let mut net = net();
        net.nodes[2].address = "127.0.0.1".parse().unwrap();
        let (routes, near) = routes(&net);
        expect![[r#"
            ip route add 10.77.1.0/24 via 192.168.1.11
            ip route add 10.77.2.0/24 via inet6 2001:db8::2
        "#]]
        .assert_eq(&routes);
        assert_eq!(near.len(), 1);
    }

    #[test]
    fn peers_in_a_list() {
        let peer: NetPeer = serde_json::from_str(
            r#"{ "name": "laptop", "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "ip": "10.77.255.1",
                 "created_at": "2026-03-01T12:00:00Z" }"#,
        )
        .unwrap();
        let out = Out::of(None, look(true), Terminal { out: true, ..Terminal::default() });
        expect![[r#"
            NAME    IP           CREATED  KEY
            laptop  10.77.255.1  1h       BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
        "#]]
        .assert_eq(&out.list_text(&[peer]).unwrap());
    }
}
