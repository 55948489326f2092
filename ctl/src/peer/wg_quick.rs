//! The file that `wg-quick` and WireGuard's programs for telephones read: wg-quick(8), wg(8).

use super::PrivateKey;
use std::{fmt::Write as _, net::Ipv4Addr};
use waifud_api::net::{Net, NodeNet};

/// WireGuard's largest packet within an Ethernet frame of 1500 bytes, over IPv6: the mesh's own.
const MTU: u32 = 1420;
/// A machine behind a home router or in a café is forgotten by it after 30 s or more of silence; wg(8) proposes 25.
const KEEPALIVE_SECONDS: u32 = 25;
/// resolv.conf(5) takes three name servers; more would be left out without a word.
const NAME_SERVERS: usize = 3;

/// What the file says.
#[derive(Debug)]
pub(crate) struct WgQuick<'a> {
    /// None: the user has it, and puts it in.
    pub(crate) private: Option<&'a PrivateKey>,
    pub(crate) ip: Ipv4Addr,
    pub(crate) net: &'a Net,
}

impl WgQuick<'_> {
    /// The nodes that can be reached, which are those with an end of the mesh.
    fn ends(&self) -> impl Iterator<Item = (&NodeNet, waifud_api::net::MeshEnd)> {
        self.net.nodes.iter().filter_map(|node| node.mesh.map(|end| (node, end)))
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let domain = &self.net.domain;
        let mut text = String::from("[Interface]\n");
        let _ = match self.private {
            Some(private) => writeln!(text, "PrivateKey = {}", private.secret()),
            None => writeln!(text, "# Put your private key here:\n# PrivateKey = ..."),
        };
        let _ = writeln!(text, "Address = {}/32\nMTU = {MTU}", self.ip);
        let servers: Vec<_> = self.ends().take(NAME_SERVERS).map(|(node, _)| node.gateway.to_string()).collect();
        if !servers.is_empty() {
            let _ = writeln!(
                text,
                "# The nodes answer for NAME.{domain} and ask others for the rest. wg-quick needs resolvconf for this line;\n\
                 # without it, take the line out and use addresses.\n\
                 DNS = {}, {domain}",
                servers.join(", ")
            );
        }
        for (node, end) in self.ends() {
            let _ = write!(
                text,
                "\n# {}\n[Peer]\nPublicKey = {}\nEndpoint = {}\nAllowedIPs = {}\nPersistentKeepalive = {KEEPALIVE_SECONDS}\n",
                node.node, end.key, end.endpoint, node.subnet
            );
        }
        text
    }
}

/// The file without what only people read: for a QR code, in which every character makes the squares smaller.
pub(crate) fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.replace(" = ", "=").replace(", ", ",") + "\n").collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;

    /// Three nodes; the last has no end of the mesh yet.
    pub(crate) fn net() -> Net {
        serde_json::from_str(
            r#"{
                "cidr": "10.77.0.0/16", "peers_subnet": "10.77.255.0/24", "domain": "waifu.internal",
                "nodes": [
                    { "node": "n1", "subnet": "10.77.1.0/24", "gateway": "10.77.1.1", "address": "192.168.1.11",
                      "mesh": { "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "endpoint": "192.168.1.11:7444" } },
                    { "node": "n2", "subnet": "10.77.2.0/24", "gateway": "10.77.2.1", "address": "2001:db8::2",
                      "mesh": { "key": "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=", "endpoint": "[2001:db8::2]:7444" } },
                    { "node": "n3", "subnet": "10.77.3.0/24", "gateway": "10.77.3.1", "address": "192.168.1.13" }
                ]
            }"#,
        )
        .unwrap()
    }

    #[test]
    fn a_file_for_a_machine_with_its_own_key() {
        let text = WgQuick { private: None, ip: Ipv4Addr::new(10, 77, 255, 1), net: &net() }.text();
        expect![[r#"
            [Interface]
            # Put your private key here:
            # PrivateKey = ...
            Address = 10.77.255.1/32
            MTU = 1420
            # The nodes answer for NAME.waifu.internal and ask others for the rest. wg-quick needs resolvconf for this line;
            # without it, take the line out and use addresses.
            DNS = 10.77.1.1, 10.77.2.1, waifu.internal

            # n1
            [Peer]
            PublicKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
            Endpoint = 192.168.1.11:7444
            AllowedIPs = 10.77.1.0/24
            PersistentKeepalive = 25

            # n2
            [Peer]
            PublicKey = CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=
            Endpoint = [2001:db8::2]:7444
            AllowedIPs = 10.77.2.0/24
            PersistentKeepalive = 25
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_made_key_is_in_the_file_and_comments_are_not_in_the_code() {
        let key = PrivateKey::random().unwrap();
        let text = WgQuick { private: Some(&key), ip: Ipv4Addr::new(10, 77, 255, 1), net: &net() }.text();
        assert!(text.contains(&format!("\nPrivateKey = {}\n", key.secret())));
        let short = without_comments(&text);
        assert!(short.starts_with(&format!("[Interface]\nPrivateKey={}\nAddress=10.77.255.1/32\n", key.secret())));
        assert!(!short.contains('#') && short.len() < text.len());
    }
}
