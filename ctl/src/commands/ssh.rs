//! `ssh`: into a guest, with what the cluster knows of it.

use crate::{
    complete,
    context::Context,
    exit::Failure,
    output,
    shell::{self, Wishes},
};
use std::{
    ffi::OsString,
    os::unix::{ffi::OsStringExt as _, process::CommandExt as _},
    process::Command,
};
use waifud_api::exit::Exit;
use waifud_model::{name::VmName, observed::VmState};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl ssh web-1
  waifuctl ssh web-1 -l root -- systemctl status nginx
  waifuctl ssh web-1 -J admin@n1.example.org
  waifuctl ssh web-1 --option ForwardAgent=yes
  waifuctl ssh web-1 --print")]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    #[command(flatten)]
    wishes: Wishes,
    /// Only print the command
    #[arg(long)]
    print: bool,
    /// What to run there, after --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let vm = context.fresh(context.client.vm(&args.name).await?);
    let state = vm.status.state;
    if vm.status.silent.is_none() && matches!(state, VmState::Stopped | VmState::Failed | VmState::Crashed) {
        let message = format!("{} does not run: it is {state}", vm.name);
        return Err(Failure::ended(Exit::Failed, message, format!("waifuctl start {}", vm.name)));
    }
    let door = shell::find(context, &vm, &args.wishes).await?;
    let line = door.line(&[], &args.command);
    if args.print {
        let quoted: Vec<_> = line.iter().map(|word| quote(word)).collect();
        return output::stdout(&format!("{}\n", quoted.join(" ")));
    }
    if shell::refuses(&door).await {
        // ssh says what it met, and ends as it does; what that may mean is known here.
        context.hint(&format!(
            "no SSH server answers in {0}: its guest may still boot (waifuctl wait {0} --for ssh) or have none (waifuctl console {0})",
            vm.name
        ));
    }
    let words = line.into_iter().skip(1).map(|word| OsString::from_vec(word.into_bytes()));
    // In place of this process: signals, the terminal and the exit status are then ssh's own.
    let source = Command::new("ssh").args(words).exec();
    Err(Failure::Io { what: "ssh", source })
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("a-b=c"), "a-b=c");
        assert_eq!(quote("it's \"so\""), r#"'it'\''s "so"'"#);
        assert_eq!(quote(""), "''");
    }
}
