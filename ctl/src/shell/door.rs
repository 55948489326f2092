//! A way to one guest as a command line of ssh, and whether somebody answers at its end.

use std::{io, net::Ipv4Addr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
    process::Command,
};

/// How long one knock may take: a connection through a node and a first line.
const KNOCK: Duration = Duration::from_secs(5);
/// How long a refusal may take: one way there and back. Whoever says nothing until then is ssh's to wait for.
const REFUSAL: Duration = Duration::from_millis(500);
/// How an SSH server begins to speak (RFC 4253, 4.2).
const GREETING: &[u8] = b"SSH-";

/// A way to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    /// The machine in between.
    pub(crate) through: Option<String>,
    pub(crate) identity: Option<String>,
    /// Options of ssh's that the user gave.
    pub(crate) options: Vec<String>,
    /// What the guest's host key is kept by.
    pub(crate) life: String,
    pub(crate) known_hosts: Option<String>,
}

impl Door {
    /// The command line, `ssh` first; `more` are further options, `words` what is to be run there.
    pub(crate) fn line(&self, more: &[&str], words: &[String]) -> Vec<String> {
        let mut line = vec!["ssh".to_owned()];
        let mut option = |text: String| line.extend(["-o".to_owned(), text]);
        // What the user gives comes first, and counts: of several values ssh takes the first.
        self.options.iter().cloned().for_each(&mut option);
        option(format!("HostKeyAlias={}", self.life));
        if let Some(file) = &self.known_hosts {
            option(format!("UserKnownHostsFile={file}"));
        }
        // The first key of a life is taken in, another one in the same life refused; the address says nothing.
        option("StrictHostKeyChecking=accept-new".to_owned());
        option("CheckHostIP=no".to_owned());
        more.iter().map(|text| (*text).to_owned()).for_each(&mut option);
        let mut flag = |flag: &str, value: &Option<String>| {
            line.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
        };
        flag("-J", &self.through);
        flag("-i", &self.identity);
        flag("-l", &self.user);
        flag("-p", &Some(self.port).filter(|port| *port != 22).map(|port| port.to_string()));
        line.push(self.ip.to_string());
        if !words.is_empty() {
            line.push("--".to_owned());
            line.extend_from_slice(words);
        }
        line
    }
}

/// Does an SSH server answer at the end of this way? If not: why, in a few words.
pub(crate) async fn answers(door: &Door) -> Result<(), String> {
    let knocked = async {
        match &door.through {
            None => {
                let stream = TcpStream::connect((door.ip, door.port)).await.map_err(|e| e.to_string())?;
                greeted(stream).await
            }
            Some(through) => {
                // The machine in between carries bytes; who answers at the guest is seen by the first of them.
                let mut command = Command::new("ssh");
                command.args(["-o", "BatchMode=yes", "-W", &format!("{}:{}", door.ip, door.port), through]);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
                let mut child = command.spawn().map_err(|e| format!("ssh: {e}"))?;
                let stream = child.stdout.take().ok_or("ssh has no output")?;
                greeted(stream).await.map_err(|why| format!("through {through}: {why}"))
            }
        }
    };
    tokio::time::timeout(KNOCK, knocked).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// Is it certain that nobody listens at the end of this way? Only told of a guest that is reached directly, and that says so.
pub(crate) async fn refuses(door: &Door) -> bool {
    let knocked = TcpStream::connect((door.ip, door.port));
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    door.through.is_none() && matches!(tokio::time::timeout(REFUSAL, knocked).await, Ok(Err(error)) if refused(&error))
}

async fn greeted(mut stream: impl AsyncRead + Unpin) -> Result<(), String> {
    let mut first = [0; GREETING.len()];
    match stream.read_exact(&mut first).await {
        Ok(_) if first == GREETING => Ok(()),
        Ok(_) => Err("something else than an SSH server answers".to_owned()),
        Err(_) => Err("the connection was closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    fn door() -> Door {
        Door {
            ip: Ipv4Addr::new(10, 77, 2, 14),
            port: 22,
            user: Some("debian".to_owned()),
            through: None,
            identity: None,
            options: vec!["ForwardAgent=yes".to_owned()],
            life: "waifu-1".to_owned(),
            known_hosts: Some("\"/s/known_hosts\"".to_owned()),
        }
    }

    #[test]
    fn a_way_is_a_command_line() {
        let plain = door().line(&[], &[]).join(" ");
        assert_eq!(
            plain,
            "ssh -o ForwardAgent=yes -o HostKeyAlias=waifu-1 -o UserKnownHostsFile=\"/s/known_hosts\" \
             -o StrictHostKeyChecking=accept-new -o CheckHostIP=no -l debian 10.77.2.14"
        );
        let far = Door { through: Some("root@n1".to_owned()), port: 2222, options: vec![], ..door() };
        let far = far.line(&["BatchMode=yes"], &["uptime".to_owned(), "-p".to_owned()]).join(" ");
        assert!(far.ends_with("-o BatchMode=yes -J root@n1 -l debian -p 2222 10.77.2.14 -- uptime -p"), "{far}");
    }

    #[tokio::test]
    async fn who_answers_is_seen_by_the_first_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |port| Door { ip: Ipv4Addr::LOCALHOST, port, ..door() };
        let port = listener.local_addr().unwrap().port();
        for (said, good) in [(&b"SSH-2.0-OpenSSH_9.2\r\n"[..], true), (b"HTTP/1.1 200 OK\r\n", false), (b"", false)] {
            let door = at(port);
            let (met, ()) = tokio::join!(answers(&door), async {
                listener.accept().await.unwrap().0.write_all(said).await.unwrap();
            });
            assert_eq!(met.is_ok(), good, "{said:?}");
        }
        assert!(!refuses(&at(port)).await);
        drop(listener);
        assert!(answers(&at(port)).await.is_err() && refuses(&at(port)).await);
        assert!(!refuses(&Door { through: Some("n1".to_owned()), ..at(port) }).await, "it is n1 that would know");
    }
}
