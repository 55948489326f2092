//! The way into a guest by ssh: as whom, which way, with whose host keys.
//!
//! In: a VM, what the user said, where the API is. Out: a command line for the `ssh` of this machine, which does the rest; nothing
//! here speaks its protocol. Host keys are kept by the life of a VM, not by its address: an address is given again, and the
//! new VM must not look like an attack; a guest that shows another key in the same life must.

mod door;

pub(crate) use door::{Door, answers, refuses};

use crate::{context::Context, exit::Failure, guest, route, settings, settings::Key};
use std::path::Path;
use waifud_api::{client::Endpoint, vm::Vm};

/// Where SSH servers listen (RFC 4253, section 4.1).
const SSH_PORT: u16 = 22;

/// What the user said about the way in.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wishes {
    /// As whom [default: whom the VM's cloud-config or template tells: see waifuctl help ssh]
    #[arg(short, long, value_name = "USER", value_parser = user)]
    login: Option<String>,
    /// Through which machine, where guests are not routed [default: the context's, or the host that answers]
    #[arg(short = 'J', long, value_name = "[USER@]HOST[:PORT]", value_parser = jump)]
    jump: Option<String>,
    /// Straight to the guest, whatever this machine's routes look like
    #[arg(long, conflicts_with = "jump")]
    direct: bool,
    /// A file with the private key
    #[arg(short, long, value_name = "FILE")]
    identity: Option<String>,
    /// The guest's port
    #[arg(short, long, value_name = "PORT", default_value_t = SSH_PORT)]
    port: u16,
    /// An option of ssh's: ForwardAgent=yes; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = option)]
    option: Vec<String>,
}

impl Wishes {
    /// The way in that needs no wishes, with the private key that belongs to this public one where it lies beside it.
    pub(crate) fn with_key(public: Option<&Path>) -> Self {
        let private =
            public.and_then(|path| path.to_str()?.strip_suffix(".pub")).filter(|path| Path::new(path).is_file());
        Self { identity: private.map(str::to_owned), port: SSH_PORT, ..Self::default() }
    }

    /// Did the user say anything about the way in?
    pub(crate) fn are_said(&self) -> bool {
        let Self { login, jump, direct, identity, port, option } = self;
        let named = [login, jump, identity].into_iter().any(Option::is_some);
        named || *direct || *port != SSH_PORT || !option.is_empty()
    }
}

fn user(text: &str) -> Result<String, String> {
    if guest::is_user(text) { Ok(text.to_owned()) } else { Err("that is not a user's name".to_owned()) }
}

fn jump(text: &str) -> Result<String, String> {
    let odd = text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace);
    if odd { Err("write it like root@n1 or n1:2222".to_owned()) } else { Ok(text.to_owned()) }
}

fn option(text: &str) -> Result<String, String> {
    let name = text.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty());
    let plain = name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric()));
    if plain { Ok(text.to_owned()) } else { Err("write it as ssh_config does: ForwardAgent=yes".to_owned()) }
}

/// Finds the way to a VM, and says on stderr which it is where that is not the plain one.
pub(crate) async fn find(context: &Context, vm: &Vm, wishes: &Wishes) -> Result<Door, Failure> {
    let endpoint = context.client.endpoint();
    let direct = wishes.direct
        // Where the local socket is, there is a node, and nodes reach every guest.
        || (wishes.jump.is_none() && matches!(endpoint, Endpoint::Unix(_)))
        || (wishes.jump.is_none() && route::leads_to(vm.ip));
    let host = match endpoint {
        Endpoint::Https { host, .. } => Some(host.clone()),
        Endpoint::Unix(_) => None,
    };
    let through = if direct { None } else { wishes.jump.clone().or(context.target.jump.clone()).or(host) };
    if let (Some(through), None) = (&through, &wishes.jump) {
        context.hint(&format!(
            "{} is not routed from here: going through {through}; waifuctl net peer add gives a way of its own",
            vm.ip
        ));
    }
    let known_hosts = known_hosts().map_err(|source| Failure::Io { what: "the file of host keys", source })?;
    Ok(Door {
        ip: vm.ip,
        port: wishes.port,
        user: login(context, vm, wishes).await,
        through,
        identity: wishes.identity.clone(),
        options: wishes.option.clone(),
        life: life(vm),
        known_hosts,
    })
}

/// As whom: what was said, what the guest was told, what images of the name have, what is configured.
async fn login(context: &Context, vm: &Vm, wishes: &Wishes) -> Option<String> {
    if let Some(user) = &wishes.login {
        return Some(user.clone());
    }
    let told = match &vm.user_data {
        // Only operators may read it; whoever may not is told by the template's name.
        Some(_) => context.client.cloud_init(&vm.name).await.ok().and_then(|answer| answer.value.0.user_data),
        None => None,
    };
    let told = told.and_then(|text| guest::of_user_data(&String::from_utf8_lossy(text.0.as_bytes())));
    told.or_else(|| guest::of_template(vm.template.name.as_str()).map(str::to_owned))
        .or_else(|| context.settings.defaults.get(Key::User).map(str::to_owned))
}

/// What host keys are kept by. A new life of a guest (a new instance-id) makes new ones.
fn life(vm: &Vm) -> String {
    if vm.instance_id.is_empty() { format!("waifu-{}", vm.id) } else { format!("waifu-{}-{}", vm.id, vm.instance_id) }
}

/// The file of host keys; its folder is made if it is not there. None where the user has no home: ssh's own file is used then.
fn known_hosts() -> std::io::Result<Option<String>> {
    let Some(dir) = settings::state_dir() else { return Ok(None) };
    std::fs::create_dir_all(&dir)?;
    Ok(Some(shown(&dir.join("known_hosts"))))
}

/// A path as a value in ssh_config(5): quoted, and `%` doubled.
fn shown(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::vm::tests::vm;

    #[test]
    fn what_would_be_an_option_of_ssh_is_refused() {
        assert!(user("ann").is_ok() && user("-oProxyCommand=x").is_err());
        assert!(jump("root@n1:22").is_ok() && jump("-oX").is_err() && jump("a b").is_err());
        assert!(option("ForwardAgent=yes").is_ok() && option("-oX=y").is_err() && option("ForwardAgent").is_err());
    }

    #[test]
    fn a_private_key_is_found_beside_its_public_one() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("me.pub");
        assert!(!Wishes::with_key(Some(&public)).are_said());
        std::fs::write(dir.path().join("me"), "").unwrap();
        let wishes = Wishes::with_key(Some(&public));
        assert_eq!((wishes.identity.as_deref(), wishes.port), (dir.path().join("me").to_str(), 22));
        assert!(wishes.are_said() && Wishes { port: 2222, ..Wishes::with_key(None) }.are_said());
    }

    #[test]
    fn each_life_has_its_keys() {
        let first = life(&vm());
        let mut again = vm();
        again.instance_id = "i-2".to_owned();
        assert_ne!(first, life(&again));
        assert_eq!(first, life(&vm()));
        assert_eq!(shown(Path::new("/a b/%h")), "\"/a b/%%h\"");
    }
}
