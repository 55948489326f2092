//! What can be typed after `create`, and the requests it makes.

use super::change::{FirmwareArg, Restart};
use crate::{
    complete,
    documents::{DatasourceArg, ImdsArg, Sources, ssh_keys},
    exit::Failure,
    typed::{one_or_more, size},
};
use std::{collections::BTreeMap, path::PathBuf};
use waifud_api::{template::TemplateSelector, vm::VmCreate};
use waifud_model::{
    hardware::CpuModel,
    labels::{Label, Labels},
    name::{BridgeName, DiskName, NameError, NodeName, VmName},
    size::{ByteSize, SizeError},
};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl create -t debian-12 -n web-1 -c 2 -m 4G --ssh-key ~/.ssh/id_ed25519.pub
  waifuctl create -t debian-12 -n web -u cloud-config.yaml --count 3
  waifuctl create -t debian-12 --ssh-key ~/.ssh/id_ed25519.pub --wait cloud-init --timeout 15m
  waifuctl create -t debian-12 -n gw -u - --network-config net.yaml --imds v2 < cloud-config.yaml
  waifuctl create -t debian-12 -m 64G --dry-run")]
pub(crate) struct Args {
    /// What the disk starts from: a template, or one of its versions (NAME@VERSION)
    #[arg(short, long, value_name = "TEMPLATE[@VERSION]", add = complete::templates())]
    template: TemplateSelector,
    /// The name; one is made up if none is given
    #[arg(short, long)]
    name: Option<VmName>,
    /// Memory: 512M, 4G
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value_t = VmCreate::default_memory(), hide_default_value = true)]
    #[arg(help = "Memory: 512M, 4G [default: 512M]")]
    memory: ByteSize,
    /// Virtual CPUs
    #[arg(short, long, value_name = "COUNT", default_value_t = VmCreate::default_cpus(), value_parser = one_or_more)]
    cpus: u32,
    /// The root disk [default: 10G, or the template's size where that is more]
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    disk: Option<ByteSize>,
    /// The node it must be on; the cluster chooses if none is given
    #[arg(short = 'N', long, add = complete::nodes())]
    node: Option<NodeName>,
    /// A file with cloud-init user-data, taken byte for byte; - is stdin
    #[arg(short, long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// A file with cloud-init network-config, taken byte for byte [default: the guest asks DHCP]
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
    /// As which cloud the guest is to know its host [default: no_cloud]
    #[arg(long, value_enum)]
    datasource: Option<DatasourceArg>,
    /// To which requests EC2's documents are given [default: any]
    #[arg(long, value_enum)]
    imds: Option<ImdsArg>,
    /// A file with OpenSSH public keys for the default user; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_key: Vec<PathBuf>,
    /// A label, for filters; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// What happens when it stops by itself
    #[arg(long, value_enum, default_value_t)]
    restart: Restart,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Protect it from being deleted
    #[arg(long)]
    protect: bool,
    /// Leave it off when its host starts
    #[arg(long)]
    no_autostart: bool,
    /// What starts its boot loader
    #[arg(long, value_enum, default_value_t)]
    firmware: FirmwareArg,
    /// The CPU its guest sees: host, or a model of virsh cpu-models [default: host]
    #[arg(long, value_name = "MODEL")]
    cpu_model: Option<CpuModel>,
    /// The most memory it can be given while it runs [default: as much as it boots with]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_max: Option<ByteSize>,
    /// An empty disk beside the root disk; may be given several times
    #[arg(long, value_name = "DISK=SIZE")]
    add_disk: Vec<NewDisk>,
    /// An ISO image for its CD drive: a template of that kind
    #[arg(long, value_name = "TEMPLATE", add = complete::templates())]
    cd: Option<TemplateSelector>,
    /// A bridge of its node that it gets a network card on; may be given several times
    #[arg(long, value_name = "BRIDGE")]
    bridge: Vec<BridgeName>,
    /// Make it, but do not start it
    #[arg(long)]
    no_start: bool,
    /// What to wait for [default: until its guest was seen and, where it was given documents, has begun on them]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) wait: Option<Until>,
    /// How many: NAME-1, NAME-2 and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Only say where it would go, and why
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The words of `--wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Until {
    /// It runs
    Running,
    /// Its guest was seen at its address
    Ip,
    /// An SSH server answers in it
    Ssh,
    /// Its cloud-init is done: told by the guest, or asked for through ssh
    CloudInit,
}

/// The value of `--add-disk`.
#[derive(Debug, Clone)]
struct NewDisk(DiskName, ByteSize);

impl std::str::FromStr for NewDisk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, size) = text.split_once('=').ok_or("write DISK=SIZE, for example data=20G")?;
        let name = name.parse().map_err(|e: NameError| e.to_string())?;
        Ok(Self(name, size.parse().map_err(|e: SizeError| e.to_string())?))
    }
}

impl Args {
    /// The requests, all files read; and which document came from which file.
    pub(super) fn requests(self) -> Result<(Vec<VmCreate>, Sources), Failure> {
        let labels: BTreeMap<_, _> = self.label.into_iter().map(|label| (label.key, label.value)).collect();
        let labels = Labels::try_from(labels).map_err(|e| Failure::Usage(e.to_string()))?;
        let disks: BTreeMap<_, _> = self.add_disk.into_iter().map(|NewDisk(name, size)| (name, size)).collect();
        let mut sources = Sources::default();
        let mut document = |field, path: Option<PathBuf>| path.map(|path| sources.read(field, &path)).transpose();
        let request = VmCreate {
            name: self.name,
            cpus: self.cpus,
            memory: self.memory,
            disk: self.disk,
            node: self.node,
            user_data: document("user_data", self.user_data)?,
            network_config: document("network_config", self.network_config)?,
            ssh_keys: ssh_keys(&self.ssh_key)?,
            datasource: self.datasource.map(Into::into).unwrap_or_default(),
            imds: self.imds.map(Into::into).unwrap_or_default(),
            labels,
            restart: self.restart.into(),
            description: self.description.unwrap_or_default(),
            protected: self.protect,
            autostart: !self.no_autostart,
            firmware: self.firmware.into(),
            cpu_model: self.cpu_model.unwrap_or_default(),
            memory_max: self.memory_max,
            disks,
            cd: self.cd,
            bridges: self.bridge,
            start: !self.no_start,
            ..VmCreate::from_template(self.template)
        };
        let requests = (1..=self.count).map(|number| numbered(&request, number, self.count)).collect::<Result<_, _>>();
        Ok((requests?, sources))
    }
}

fn numbered(request: &VmCreate, number: u32, count: u32) -> Result<VmCreate, Failure> {
    let name = match &request.name {
        Some(name) if count > 1 => {
            Some(VmName::new(format!("{name}-{number}")).map_err(|e| Failure::Usage(e.to_string()))?)
        }
        name => name.clone(),
    };
    Ok(VmCreate { name, ..request.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use expect_test::expect;
    use waifud_api::exit::Exit;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn requests(line: &str) -> Result<Vec<VmCreate>, Failure> {
        Only::try_parse_from(line.split(' '))
            .map_err(|e| Failure::Usage(e.to_string()))?
            .args
            .requests()
            .map(|(requests, _)| requests)
    }

    #[test]
    fn a_line_becomes_a_request() {
        let requests = requests(
            "create -t debian-12@9f3c21 -n web-1 -c 2 -m 4G -d 20G -N n2 --label env=prod --restart never --no-start --datasource openstack --imds v2",
        );
        expect![[r#"
            [
              {
                "name": "web-1",
                "template": "debian-12@9f3c21",
                "cpus": 2,
                "memory": 4294967296,
                "disk": 21474836480,
                "node": "n2",
                "datasource": "open_stack",
                "imds": "v2",
                "labels": {
                  "env": "prod"
                },
                "restart": "never",
                "firmware": "bios",
                "cpu_model": "host",
                "start": false
              }
            ]"#]]
        .assert_eq(&serde_json::to_string_pretty(&requests.unwrap()).unwrap());
    }

    #[test]
    fn several_are_numbered() {
        let names: Vec<_> = requests("create -t a -n web --count 3")
            .unwrap()
            .into_iter()
            .map(|r| r.name.unwrap().to_string())
            .collect();
        assert_eq!(names, ["web-1", "web-2", "web-3"]);
        let made_up = requests("create -t a --count 2").unwrap();
        assert!(made_up.iter().all(|r| r.name.is_none()));
    }

    #[test]
    fn what_cannot_be_right_is_told_before_anything_is_sent() {
        for bad in [
            "create",
            "create -t a -n ../x",
            "create -t a -c 0",
            "create -t a -m lots",
            "create -t a --label x",
            "create -t a -u /nonexistent",
            "create -t a --network-config /nonexistent",
            "create -t a --datasource azure",
        ] {
            assert_eq!(requests(bad).unwrap_err().exit(), Exit::Usage, "{bad}");
        }
    }
}
