//! `delete`: away with VMs, disks included.

use crate::{
    complete, confirm,
    context::Context,
    exit::{self, Failure},
    wait::{self, Goal},
};
use waifud_api::{exit::Exit, vm::Vm};
use waifud_model::name::VmName;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl delete web-1
  waifuctl delete --yes web-1 web-2
  waifuctl delete --dry-run web-1")]
pub(crate) struct Args {
    /// The VMs
    #[arg(required = true, add = complete::vms())]
    names: Vec<VmName>,
    /// Only say what would be deleted, and what would be refused and why
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let mut ends = Vec::new();
    // A name that is wrong and a VM that is protected are told before anything is asked or deleted.
    let mut vms = Vec::new();
    for name in &args.names {
        let found = match context.client.vm(name).await {
            Ok(answer) if answer.value.protected && !args.dry_run => context.client.preview_delete(name).await,
            found => found,
        };
        match found {
            Ok(answer) => vms.push(context.fresh(answer)),
            Err(error) => ends.push(exit::report(&error.into(), context.terminal)),
        }
    }
    if args.dry_run {
        return dry(context, vms, ends).await;
    }
    if !vms.is_empty() {
        confirm::agree(context, &question(&vms)).await?;
    }
    for vm in vms {
        ends.push(match delete(context, vm).await {
            Ok(()) => Exit::Done,
            Err(failure) => exit::report(&failure, context.terminal),
        });
    }
    ended(&ends)
}

/// Asks the cluster whether it would, VM by VM, and shows those that would go.
async fn dry(context: &Context, vms: Vec<Vm>, mut ends: Vec<Exit>) -> Result<(), Failure> {
    let mut doomed = Vec::new();
    for vm in vms {
        match context.client.preview_delete(&vm.name).await {
            Ok(answer) => {
                let vm = context.fresh(answer);
                context.hint(&format!("would delete {} with {}", named(&vm), disks(&vm)));
                doomed.push(vm);
                ends.push(Exit::Done);
            }
            Err(error) => {
                context.hint(&format!("would be refused to delete {}:", named(&vm)));
                ends.push(exit::report(&error.into(), context.terminal));
            }
        }
    }
    context.out.list(&doomed)?;
    ended(&ends)
}

/// `its disk`, or `its disks root, data and logs`.
fn disks(vm: &Vm) -> String {
    let more: Vec<_> = vm.hardware.disks.keys().map(ToString::to_string).collect();
    if more.is_empty() { "its disk".to_owned() } else { format!("its root disk and {}", more.join(", ")) }
}

/// Several ends as one.
pub(crate) fn ended(ends: &[Exit]) -> Result<(), Failure> {
    match together(ends) {
        Exit::Done => Ok(()),
        other => Err(Failure::Told(other)),
    }
}

fn named(vm: &Vm) -> String {
    format!("{} on {} ({})", vm.name, vm.node, vm.disk)
}

fn question(vms: &[Vm]) -> String {
    let named: Vec<_> = vms.iter().map(named).collect();
    let disks = if vms.len() == 1 { "its disk" } else { "their disks" };
    format!("Delete {} with {disks}? This cannot be undone.", named.join(", "))
}

async fn delete(context: &Context, vm: Vm) -> Result<(), Failure> {
    let vm = context.fresh(wait::accepted(context.client.delete_vm(&vm.name)).await?);
    if !context.wait {
        context.hint(&Goal::Gone.follow(&vm.name));
        return Ok(());
    }
    let clock = context.progress.phase(&format!("deleting {}", vm.name));
    let vm = wait::until(context, vm, Goal::Gone, |_| ()).await?;
    clock.done(&format!("{} is deleted", vm.name), "");
    Ok(())
}

/// One exit status for several ends: theirs if all are alike, else that it was partly done or, if nothing was, the first.
pub(crate) fn together(ends: &[Exit]) -> Exit {
    match ends.iter().find(|end| **end != Exit::Done) {
        None => Exit::Done,
        Some(_) if ends.contains(&Exit::Done) => Exit::Partly,
        Some(first) => *first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ends_are_one() {
        use Exit::{Done, NotFound, Partly, TimedOut};
        for (ends, one) in [
            (vec![], Done),
            (vec![Done, Done], Done),
            (vec![NotFound, NotFound], NotFound),
            (vec![Done, NotFound], Partly),
            (vec![NotFound, TimedOut], NotFound),
        ] {
            assert_eq!(together(&ends), one, "{ends:?}");
        }
    }
}
