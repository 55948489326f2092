//! Who may come in: the browser that opened the one-time link, from pages of this very address, and nobody else.
//!
//! Against other users of the machine: link and cookie are 128 random bits each, and the link is spent at its first use.
//! Against other web sites in the same browser: the `Host` must be ours (DNS rebinding), `Origin` and `Sec-Fetch-Site` must not be
//! foreign (requests forged by another site or another port), and the cookie is `SameSite=Strict`.

use http::{
    HeaderMap, Method,
    header::{COOKIE, HOST, ORIGIN},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

/// The path of the one-time link, before its secret.
const SIGN_IN: &str = "/waifu-sign-in/";

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is passed on.
    Open,
    /// The link was right and fresh: the browser gets the cookie.
    SignIn,
    /// The link was right and has been used.
    Spent,
    /// It has no business here; the text says why.
    Shut(&'static str),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    link: String,
    cookie: String,
    spent: AtomicBool,
}

fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Door {
    /// A door at this address, with fresh secrets.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, link: secret(), cookie: secret(), spent: AtomicBool::new(false) }
    }

    /// The link that works once.
    pub(crate) fn link(&self) -> String {
        format!("http://{}{SIGN_IN}{}", self.address, self.link)
    }

    /// The cookie's name has the port: cookies do not tell ports apart, and two panels may be open at once.
    fn cookie_name(&self) -> String {
        format!("waifu-panel-{}", self.address.port())
    }

    /// The cookie, as it is given to the browser.
    pub(crate) fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.cookie)
    }

    /// Judges a request.
    pub(crate) fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Entry {
        let text = |name: http::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if text(HOST) != Some(self.address.to_string().as_str()) {
            return Entry::Shut("this address is served under its own name only");
        }
        if text(ORIGIN).is_some_and(|origin| origin != format!("http://{}", self.address)) {
            return Entry::Shut("requests from other sites are not taken");
        }
        if let Some(secret) = path.strip_prefix(SIGN_IN) {
            return match (secret == self.link, method) {
                (true, &Method::GET) if self.spent.swap(true, Ordering::Relaxed) => Entry::Spent,
                (true, &Method::GET) => Entry::SignIn,
                _ => Entry::Shut("this is not the link that was printed"),
            };
        }
        let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or("?"));
        if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Entry::Shut("requests from other sites are not taken");
        }
        if self.has_cookie(headers) {
            Entry::Open
        } else {
            Entry::Shut("sign in with the link that waifuctl panel prints")
        }
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let wanted = format!("{}={}", self.cookie_name(), self.cookie);
        let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|line| line.split(';')).any(|cookie| cookie.trim() == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door { link: "l".repeat(32), cookie: "c".repeat(32), ..Door::new("127.0.0.1:4711".parse().unwrap()) }
    }

    fn judge(door: &Door, path: &str, headers: &[(&'static str, &str)]) -> Entry {
        let mut map = HeaderMap::new();
        map.insert("host", "127.0.0.1:4711".parse().unwrap());
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        door.judge(&Method::GET, path, &map)
    }

    const COOKIE: (&str, &str) = ("cookie", "a=b; waifu-panel-4711=cccccccccccccccccccccccccccccccc");

    #[test]
    fn the_link_works_once() {
        let door = door();
        let path = format!("{SIGN_IN}{}", "l".repeat(32));
        assert!(matches!(judge(&door, "/waifu-sign-in/x", &[]), Entry::Shut(_)), "a wrong link spends nothing");
        assert_eq!(judge(&door, &path, &[]), Entry::SignIn);
        assert_eq!(judge(&door, &path, &[]), Entry::Spent);
    }

    #[test]
    fn only_the_cookie_s_browser_and_own_pages_come_in() {
        let door = door();
        assert_eq!(judge(&door, "/", &[COOKIE]), Entry::Open);
        assert_eq!(
            judge(&door, "/", &[COOKIE, ("origin", "http://127.0.0.1:4711"), ("sec-fetch-site", "same-origin")]),
            Entry::Open
        );
        for shut in [
            vec![],
            vec![("cookie", "waifu-panel-4711=x")],
            vec![COOKIE, ("host", "evil.example:4711")],
            vec![COOKIE, ("origin", "http://127.0.0.1:9999")],
            vec![COOKIE, ("origin", "null")],
            vec![COOKIE, ("sec-fetch-site", "same-site")],
            vec![COOKIE, ("sec-fetch-site", "cross-site")],
        ] {
            assert!(matches!(judge(&door, "/api/v1/vms", &shut), Entry::Shut(_)), "{shut:?}");
        }
    }
}
