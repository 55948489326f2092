//! What needs no cluster: completions, manual pages, version, help.

use crate::{cli::Cli, exit::Failure, output::stdout};
use clap::CommandFactory as _;
use std::path::Path;
use waifud_api::exit::Exit;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "waifuctl", &mut script);
    stdout(&String::from_utf8_lossy(&script))
}

pub(super) fn manpage(dir: &Path) -> Result<(), Failure> {
    let fault = |source| Failure::File { path: dir.display().to_string(), source };
    std::fs::create_dir_all(dir).map_err(fault)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(fault)
}

pub(super) fn version() -> Result<(), Failure> {
    stdout(concat!("waifuctl ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// Explains a topic or a command; without either, everything.
pub(super) fn help(topic: &[String]) -> Result<(), Failure> {
    let words: Vec<_> = topic.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cloud-init"] => stdout(CLOUD_INIT),
        ["exit-codes"] => stdout(&exit_codes()),
        ["environment"] => stdout(ENVIRONMENT),
        ["filters"] => stdout(FILTERS),
        path => {
            let mut command = Cli::command();
            command.build();
            let mut found = &mut command;
            for word in path {
                found = found.find_subcommand_mut(word).ok_or_else(|| {
                    Failure::Usage(format!(
                        "there is no help for {word:?}; topics are cloud-init, exit-codes, environment and filters"
                    ))
                })?;
            }
            stdout(&found.render_long_help().to_string())
        }
    }
}

fn exit_codes() -> String {
    let lines: String = Exit::ALL.iter().map(|exit| format!("  {}  {}\n", exit.code(), exit.meaning())).collect();
    format!("How waifuctl ends:\n\n{lines}\nResults are on stdout, everything else on stderr.\n")
}

const ENVIRONMENT: &str = "\
What waifuctl takes from the environment; an option of the same meaning wins:

  WAIFU_HOST        where the API is: unix:/path or https://host[:port], several with commas (--host)
  WAIFU_TOKEN_FILE  a file with an API token (--token-file)
  WAIFU_TOKEN       an API token
  WAIFU_CA_FILE     the certificate of the CA that https endpoints must have (--ca-file)
  VISUAL, EDITOR    the editor for waifuctl edit, as the shell reads it: code --wait
  NO_COLOR          if set, no colours
  CLICOLOR_FORCE    if set and not 0, colours in pipes too

Without WAIFU_HOST and --host it is the local socket, /run/waifud/api.sock: for root and the group waifud.
Tokens are sent to https endpoints only.
";

const CLOUD_INIT: &str = "\
What guests are told when they boot, and how it is changed:

  user-data       create -u FILE, edit NAME: #cloud-config, a #! script, MIME multipart and whatever else cloud-init
                  takes, at most 64 KiB, passed on byte for byte. YAML that does not read is refused with its line; keys
                  that cloud-init does not know are warned of.
  network-config  --network-config FILE; without it the guest asks DHCP.
  SSH keys        --ssh-key FILE; for the default user of the image.
  datasource      --datasource no_cloud|ec2|open_stack: as which cloud the firmware shows the host, and so what a stock
                  image asks for. All documents are served to every guest, at http://169.254.169.254.
  imds            --imds v2: EC2's documents only for requests with a session token.

Every guest also gets the cluster's own: waifuctl cluster cloud-init edit. A VM's user-data is merged over that.

cloud-init does most things once in the life of a guest, which it tells by the instance-id. So an edit says which is meant:

  --keep   the same instance-id. What was done stays, and only what cloud-init looks at on every boot takes effect.
  --rerun  a new instance-id. At the next boot everything runs again, as on the first: users, packages, runcmd.

Nothing takes effect before the next boot: waifuctl stop NAME && waifuctl start NAME.
";

const FILTERS: &str = "\
Filters choose VMs. Terms stand side by side, and all must hold:

  node=n1            placed on this node
  status=running     last seen like this: pending, fetching, preparing, running, paused, stopping, stopped,
                     crashed, failed, deleting, unknown (its node is silent)
  template=debian-12 made from this template
  label.env=prod     with this label
  web                the name contains this

A value with spaces stands in double quotes: label.team=\"two words\".

  waifuctl list node=n1 status=running label.env=prod
";

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        command.build();
        expect_file!["../../tests/goldens/help.txt"].assert_eq(&command.render_long_help().to_string());
        let create = command.find_subcommand_mut("create").unwrap();
        expect_file!["../../tests/goldens/help-create.txt"].assert_eq(&create.clone().render_long_help().to_string());
        for (path, file) in [
            (&["edit"][..], "../../tests/goldens/help-edit.txt"),
            (&["net", "peer", "add"], "../../tests/goldens/help-net-peer-add.txt"),
            (&["cluster", "cloud-init", "edit"], "../../tests/goldens/help-cluster-cloud-init-edit.txt"),
        ] {
            let found = path.iter().fold(&mut command, |command, word| command.find_subcommand_mut(word).unwrap());
            // The global options are the same everywhere.
            let text = found.clone().render_long_help().to_string();
            expect_file![file].assert_eq(text.split("Global options:").next().unwrap());
        }
        expect_file!["../../tests/goldens/help-exit-codes.txt"].assert_eq(&exit_codes());
    }

    #[test]
    fn every_command_has_a_completion_and_a_page() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "waifuctl", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(["uncordon", "rerun", "open_stack"].iter().all(|word| script.contains(word)), "{shell}");
        }
        let dir = tempfile::tempdir().unwrap();
        manpage(&dir.path().join("man")).unwrap();
        for page in ["create", "edit", "net-peer-add", "cluster-cloud-init-edit"] {
            assert!(dir.path().join(format!("man/waifuctl-{page}.1")).exists(), "{page}");
        }
    }
}
