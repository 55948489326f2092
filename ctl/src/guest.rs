//! As whom one logs in to a guest: what its cloud-config says, else what images of that name are made with.
//!
//! Pure: in a template's name and a user-data text, out a user's name. A guess is only ever made where nothing is said.

use serde::Deserialize;

/// The default users of cloud images, by what their names begin with (the distributions' own documentation of their images).
const IMAGES: [(&str, &str); 14] = [
    ("debian", "debian"),
    ("ubuntu", "ubuntu"),
    ("fedora", "fedora"),
    ("centos", "cloud-user"),
    ("rocky", "rocky"),
    ("almalinux", "almalinux"),
    ("alma", "almalinux"),
    ("rhel", "cloud-user"),
    ("alpine", "alpine"),
    ("arch", "arch"),
    ("opensuse", "opensuse"),
    ("freebsd", "freebsd"),
    ("gentoo", "gentoo"),
    ("cirros", "cirros"),
];

/// The user that images like this template are made with.
pub(crate) fn of_template(template: &str) -> Option<&'static str> {
    IMAGES.iter().find(|(image, _)| template.starts_with(image)).map(|(_, user)| *user)
}

/// What of a cloud-config tells who there is.
#[derive(Debug, Deserialize)]
struct CloudConfig {
    #[serde(default)]
    user: Option<User>,
    #[serde(default)]
    users: Option<Users>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum User {
    Name(String),
    Whole { name: Option<String> },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Users {
    List(Vec<User>),
    One(User),
}

impl User {
    fn name(self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Whole { name } => name,
        }
    }
}

/// The user that a cloud-config makes or renames: `user`, or the first of `users`. `default` is the image's own, and so none.
pub(crate) fn of_user_data(text: &str) -> Option<String> {
    if !text.starts_with("#cloud-config") {
        return None;
    }
    // What does not read was already told to whoever wrote it; here it only says nothing.
    let config: CloudConfig = serde_saphyr::from_str(text).ok()?;
    let first = match config.users {
        Some(Users::List(users)) => users.into_iter().next().and_then(User::name),
        Some(Users::One(user)) => user.name(),
        None => None,
    };
    config.user.and_then(User::name).or(first).filter(|name| name != "default" && is_user(name))
}

/// Can this be a user's name? It becomes an argument of ssh, so it must not look like an option.
pub(crate) fn is_user(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=32).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_their_users() {
        assert_eq!(of_template("debian-12"), Some("debian"));
        assert_eq!(of_template("ubuntu-24.04-minimal"), Some("ubuntu"));
        assert_eq!(of_template("golden"), None);
    }

    #[test]
    fn a_cloud_config_says_who_there_is() {
        for (text, user) in [
            ("#cloud-config\nuser: ann\n", Some("ann")),
            ("#cloud-config\nuser: {name: ann, shell: /bin/sh}\n", Some("ann")),
            ("#cloud-config\nusers:\n  - name: bob\n    sudo: ALL=(ALL) NOPASSWD:ALL\n  - ann\n", Some("bob")),
            ("#cloud-config\nusers: [default, ann]\n", None),
            ("#cloud-config\npackages: [vim]\n", None),
            ("#cloud-config\nuser: -oProxyCommand=x\n", None),
            ("#cloud-config\n: : :\n", None),
            ("#!/bin/sh\nuser: ann\n", None),
        ] {
            assert_eq!(of_user_data(text).as_deref(), user, "{text}");
        }
    }
}
