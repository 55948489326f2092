//! What can be typed after the commands that change a VM.

use crate::{
    complete,
    typed::{one_or_more, size},
};
use waifud_api::template::TemplateSelector;
use waifud_model::{
    hardware::{CpuModel, Firmware},
    labels::{Label, LabelPatch},
    name::{BridgeName, DiskName, VmName},
    size::ByteSize,
    vm::RestartPolicy,
};

/// The arguments of `resize`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl resize web-1 -m 8G -c 4
  waifuctl resize web-1 -d 40G
  waifuctl resize web-1 -m 8G --dry-run")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct ResizeArgs {
    /// The VM
    #[arg(add = complete::vms())]
    pub(super) name: VmName,
    /// Memory: 512M, 4G
    #[arg(short, long, value_name = "SIZE", group = "what", value_parser = size)]
    pub(super) memory: Option<ByteSize>,
    /// The most memory it can be given while it runs; "none" for as much as it boots with
    #[arg(long, value_name = "SIZE", group = "what", value_parser = or_none::<ByteSize>)]
    pub(super) memory_max: Option<OrNone<ByteSize>>,
    /// Virtual CPUs
    #[arg(short, long, value_name = "COUNT", group = "what", value_parser = one_or_more)]
    pub(super) cpus: Option<u32>,
    /// The root disk; disks never shrink
    #[arg(short, long, value_name = "SIZE", group = "what", value_parser = size)]
    pub(super) disk: Option<ByteSize>,
    /// Only say what would be different
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The arguments of `set`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl set web-1 --description 'the shop'
  waifuctl set web-1 --autostart no --restart never
  waifuctl set web-1 --firmware uefi --cpu-model host
  waifuctl set gw --bridge br0 --bridge br1")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct SetArgs {
    /// The VM
    #[arg(add = complete::vms())]
    pub(super) name: VmName,
    /// What it is for; empty takes it away
    #[arg(long, value_name = "TEXT", group = "what")]
    pub(super) description: Option<String>,
    /// Is it started when its host is?
    #[arg(long, value_name = "yes|no", group = "what", value_parser = yes_or_no)]
    pub(super) autostart: Option<bool>,
    /// What happens when it stops by itself
    #[arg(long, value_enum, group = "what")]
    pub(super) restart: Option<Restart>,
    /// What starts its boot loader
    #[arg(long, value_enum, group = "what")]
    pub(super) firmware: Option<FirmwareArg>,
    /// The CPU its guest sees: host, or a model of virsh cpu-models
    #[arg(long, value_name = "MODEL", group = "what")]
    pub(super) cpu_model: Option<CpuModel>,
    /// A bridge of its node that it has a network card on; give all it shall have
    #[arg(long, value_name = "BRIDGE", group = "what")]
    pub(super) bridge: Vec<BridgeName>,
    /// No network card beside the cluster's own
    #[arg(long, group = "what", conflicts_with = "bridge")]
    pub(super) no_bridge: bool,
    /// Only say what would be different
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The words of `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Start it again after a crash
    #[default]
    OnFailure,
    /// Start it again whatever the cause
    Always,
    /// Leave it
    Never,
}

impl From<Restart> for RestartPolicy {
    fn from(word: Restart) -> Self {
        match word {
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
            Restart::Never => Self::Never,
        }
    }
}

/// The words of `--firmware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum FirmwareArg {
    /// A BIOS (on Arm: UEFI)
    #[default]
    Bios,
    /// UEFI, without Secure Boot
    Uefi,
}

impl From<FirmwareArg> for Firmware {
    fn from(word: FirmwareArg) -> Self {
        match word {
            FirmwareArg::Bios => Self::Bios,
            FirmwareArg::Uefi => Self::Uefi,
        }
    }
}

/// The arguments of `label`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl label web-1 env=prod tier=web
  waifuctl label web-1 tier-")]
pub(crate) struct LabelArgs {
    /// The VM
    #[arg(add = complete::vms())]
    pub(super) name: VmName,
    /// KEY=VALUE sets a label, KEY- takes it away
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub(super) labels: Vec<LabelChange>,
}

/// One word of `label`.
#[derive(Debug, Clone)]
pub(crate) struct LabelChange(String, Option<String>);

impl std::str::FromStr for LabelChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('-').filter(|key| !key.contains('=')) {
            Some(key) => Ok(Self(key.to_owned(), None)),
            None if !text.contains('=') => Err(format!("{text}=VALUE sets a label, {text}- takes it away")),
            None => text.parse().map(|Label { key, value }| Self(key, Some(value))).map_err(|e| e.to_string()),
        }
    }
}

impl std::fmt::Display for LabelChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(key, Some(value)) => write!(f, "{key}={value}"),
            Self(key, None) => write!(f, "{key}-"),
        }
    }
}

/// Several words of `label` as one change.
pub(crate) fn patch(words: &[LabelChange]) -> LabelPatch {
    LabelPatch(words.iter().map(|LabelChange(key, value)| (key.clone(), value.clone())).collect())
}

/// The arguments of `protect` and `unprotect`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProtectArgs {
    /// The VMs
    #[arg(required = true, add = complete::vms())]
    pub(super) names: Vec<VmName>,
}

/// `disk`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DiskCommand {
    /// Add an empty disk; the guest finds it at /dev/disk/by-id/virtio-DISK
    #[command(before_help = "Examples:
  waifuctl disk add db-1 data 100G")]
    Add {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// What to call the disk
        disk: DiskName,
        /// Its size
        #[arg(value_parser = size)]
        size: ByteSize,
    },
    /// Make a disk larger
    #[command(before_help = "Examples:
  waifuctl disk grow db-1 data 200G")]
    Grow {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The disk
        disk: DiskName,
        /// Its new size
        #[arg(value_parser = size)]
        size: ByteSize,
    },
    /// Take a disk away, with all that is on it
    #[command(
        visible_alias = "rm",
        before_help = "Examples:
  waifuctl disk remove db-1 data
  waifuctl disk remove db-1 data --dry-run"
    )]
    Remove {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The disk
        disk: DiskName,
        /// Only say what would be lost
        #[arg(long)]
        dry_run: bool,
    },
}

/// `cd`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CdCommand {
    /// Put an ISO image into the drive
    #[command(before_help = "Examples:
  waifuctl cd insert win-1 virtio-win")]
    Insert {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The image: a template that is an ISO
        #[arg(add = complete::templates())]
        template: TemplateSelector,
    },
    /// Take it out
    #[command(before_help = "Examples:
  waifuctl cd eject win-1")]
    Eject {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
    },
}

/// The arguments of `rename`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl rename web-1 shop-1")]
pub(crate) struct RenameArgs {
    /// The VM
    #[arg(add = complete::vms())]
    pub(super) old: VmName,
    /// Its new name; the guest learns it at its next start
    pub(super) new: VmName,
}

/// The arguments of `reinit`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl reinit web-1
  waifuctl reinit web-1 -t debian-13 --dry-run")]
pub(crate) struct ReinitArgs {
    /// The VM
    #[arg(add = complete::vms())]
    pub(super) name: VmName,
    /// What the disk starts from [default: the newest version of its template]
    #[arg(short, long, value_name = "TEMPLATE[@VERSION]", add = complete::templates())]
    pub(super) template: Option<TemplateSelector>,
    /// Only say what would be lost, and what the disk would start from
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A value, or the word "none".
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrNone<T>(pub(super) Option<T>);

fn or_none<T: std::str::FromStr>(text: &str) -> Result<OrNone<T>, String>
where
    T::Err: std::fmt::Display,
{
    if text == "none" {
        return Ok(OrNone(None));
    }
    text.parse().map(|value| OrNone(Some(value))).map_err(|error: T::Err| error.to_string())
}

pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" | "on" => Ok(true),
        "no" | "false" | "off" => Ok(false),
        _ => Err("yes or no".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_taken_away() {
        let words: Vec<LabelChange> = ["env=prod", "tier-", "a=b-"].iter().map(|word| word.parse().unwrap()).collect();
        let patch = serde_json::to_string(&patch(&words)).unwrap();
        assert_eq!(patch, r#"{"a":"b-","env":"prod","tier":null}"#);
        assert!("nothing".parse::<LabelChange>().is_err());
    }
}
