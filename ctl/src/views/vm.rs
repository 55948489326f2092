//! VMs.

use crate::{
    commands::create::reasons,
    output::{Cell, Column, Details, Look, Row, Tone, short_span},
};
use waifud_api::{
    user_data::UserDataInfo,
    vm::{PendingChange, PlacementPreview, Vm},
};
use waifud_model::{
    observed::{Sighting, VmState},
    vm::{Desired, Phase},
};

impl Row for Vm {
    const COLUMNS: &'static [Column] = &[
        Column::text("NAME"),
        Column::text("STATUS"),
        Column::text("NODE"),
        Column::number("CPU"),
        Column::number("MEMORY"),
        Column::text("IP"),
        Column::text("UP"),
        Column::wide("CPUS"),
        Column::wide("USED"),
        Column::wide("DISK"),
        Column::wide("TEMPLATE"),
        Column::wide("LABELS"),
        Column::wide("SEEN"),
        Column::wide("MAC"),
        Column::wide("CREATED"),
        Column::wide("ID"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.name.to_string().into(),
            status(self, look),
            self.node.to_string().into(),
            busy(self, look).into(),
            memory(self, look).into(),
            self.ip.to_string().into(),
            look.since(self.status.since.filter(|_| runs(self))).into(),
            self.cpus.to_string().into(),
            self.status.memory_used.map_or_else(|| "-".to_owned(), |used| look.size(used)).into(),
            look.size(self.disk).into(),
            format!("{}@{}", self.template.name, look.digest(self.template.version)).into(),
            look.words(self.labels.iter().map(|(key, value)| format!("{key}={value}"))).into(),
            look.words(self.status.met.iter().map(|one| word(*one))).into(),
            self.mac.to_string().into(),
            look.since(Some(self.created_at)).into(),
            self.id.to_string().into(),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// How busy its CPUs are, in percent of them all.
fn busy(vm: &Vm, look: &Look) -> String {
    let sign = if look.human { "%" } else { "" };
    vm.status.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}{sign}"))
}

/// What it has, and for eyes also what of that it uses.
fn memory(vm: &Vm, look: &Look) -> String {
    match vm.status.memory_used {
        _ if !look.human => look.size(vm.memory),
        Some(used) => look.share(used, vm.memory),
        None => format!("-/{}", vm.memory),
    }
}

fn runs(vm: &Vm) -> bool {
    vm.status.state == VmState::Running && vm.status.silent.is_none()
}

const fn tone(state: VmState) -> Tone {
    match state {
        VmState::Running => Tone::Good,
        VmState::Stopped => Tone::Plain,
        VmState::Crashed | VmState::Failed => Tone::Bad,
        VmState::Pending
        | VmState::Fetching
        | VmState::Preparing
        | VmState::Paused
        | VmState::Stopping
        | VmState::Deleting
        | VmState::Unknown => Tone::Warn,
    }
}

/// One word for programs; for eyes also what is on its way, and what was last heard of a silent node's VM.
fn status(vm: &Vm, look: &Look) -> Cell {
    let state = vm.status.state;
    if let Some(silent) = &vm.status.silent {
        let since = silent.since.map(|at| format!(" for {}", short_span(at.age(look.now)))).unwrap_or_default();
        let text =
            if look.human { format!("unknown ({} silent{since}; {state})", vm.node) } else { "unknown".to_owned() };
        return Cell { text, tone: Tone::Warn };
    }
    let on_its_way = match (vm.phase, vm.desired, state) {
        (Phase::Deleting, _, VmState::Deleting) => None,
        (Phase::Deleting, ..) => Some("deleting"),
        (_, Desired::Stopped, VmState::Running | VmState::Paused) => Some("to be stopped"),
        (_, Desired::Paused, VmState::Running) => Some("to be paused"),
        (_, Desired::Running, VmState::Running) if !vm.status.waits.is_empty() => Some("changes wait"),
        (_, Desired::Running, VmState::Stopped) if vm.status.pending => Some("to be started"),
        _ => None,
    };
    match on_its_way {
        Some("deleting") if !look.human => Cell { text: VmState::Deleting.to_string(), tone: Tone::Warn },
        Some(what) if look.human => Cell { text: format!("{state} ({what})"), tone: Tone::Warn },
        _ => Cell { text: state.to_string(), tone: tone(state) },
    }
}

/// By what a guest was met, in the word of the API.
const fn word(one: Sighting) -> &'static str {
    match one {
        Sighting::Lease => "lease",
        Sighting::Arp => "arp",
        Sighting::Agent => "agent",
        Sighting::Metadata => "metadata",
    }
}

/// The address, and how it is known.
fn address(vm: &Vm) -> String {
    let seen = vm.status.met.iter().map(|one| match one {
        Sighting::Lease => "DHCP lease",
        Sighting::Arp => "ARP",
        Sighting::Agent => "guest agent",
        Sighting::Metadata => "metadata",
    });
    let seen: Vec<_> = seen.collect();
    let seen = if seen.is_empty() { "not seen yet".to_owned() } else { format!("seen: {}", seen.join(", ")) };
    format!("{} (allocated; {seen})", vm.ip)
}

/// All that is known of a VM.
pub(crate) fn details(vm: &Vm, look: &Look) -> Details {
    let ago = |text: String| if look.human { format!("{text} ago") } else { text };
    let trouble = vm.status.last_error.as_ref();
    let labels = vm.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let error = trouble.map(|error| {
        let attempts = error.attempts.map(|n| format!(" (tried {n} times)")).unwrap_or_default();
        format!("{}{attempts}", error.message)
    });
    let document = |data: &UserDataInfo| format!("{} bytes, BLAKE3 {}", data.size, look.digest(data.digest));
    Details::default()
        .with("name", &vm.name)
        .with("status", status(vm, look).text)
        .with_some("since", vm.status.since.map(|at| ago(look.since(Some(at)))))
        .with_some("error", error)
        .with_some("in vain for", trouble.and_then(|error| error.at).map(|at| look.since(Some(at))))
        .with_some("next try", trouble.and_then(|error| error.next_try).map(|at| look.until(at)))
        .with_some("doing", vm.status.doing.as_ref())
        .with_some(
            "fetching",
            vm.status.fetching.map(|far| format!("{} of {}", look.size(far.done), look.size(far.total))),
        )
        .with_some("held up", vm.status.held.as_ref())
        .with_each("pending", vm.status.changes.iter().map(pending))
        .with_some("restarts", Some(vm.status.restarts).filter(|count| *count > 0))
        .with_some("description", Some(&vm.description).filter(|text| !text.is_empty()))
        .with_some("protected", vm.protected.then_some("yes: it cannot be deleted or made anew"))
        .with("node", &vm.node)
        .with("ip", address(vm))
        .with_some("cloud-init", vm.status.cloud_init_done.then_some("done, as its guest has told"))
        .with("cpus", vm.cpus)
        .with_some("cpu use", vm.status.cpu_percent.map(|_| busy(vm, look)))
        .with("memory", look.size(vm.memory))
        .with_some("memory use", vm.status.memory_used.map(|used| look.size(used)))
        .with_some("memory max", vm.hardware.memory_max.map(|size| look.size(size)))
        .with("disk", look.size(vm.disk))
        .with_each("disks", vm.hardware.disks.iter().map(|(name, size)| format!("{name}: {}", look.size(*size))))
        .with_some("cd", vm.hardware.cd.as_ref().map(|cd| format!("{}@{}", cd.name, look.digest(cd.version))))
        .with("firmware", vm.hardware.firmware)
        .with("cpu model", &vm.hardware.cpu_model)
        .with_each("bridges", &vm.hardware.bridges)
        .with("template", format!("{}@{}", vm.template.name, look.digest(vm.template.version)))
        .with_each("labels", labels)
        .with("restart", restart(vm))
        .with("autostart", if vm.autostart { "yes" } else { "no" })
        .with_each("ssh keys", &vm.ssh_keys)
        .with_some("user-data", vm.user_data.as_ref().map(document))
        .with_some("network-config", vm.network_config.as_ref().map(document))
        .with("datasource", vm.datasource)
        .with("imds", vm.imds)
        .with_some("instance-id", Some(&vm.instance_id).filter(|id| !id.is_empty()))
        .with("mac", vm.mac)
        .with("created", ago(look.since(Some(vm.created_at))))
        .with("generation", vm.generation)
        .with("id", vm.id)
}

pub(crate) fn pending(change: &PendingChange) -> String {
    format!("{}: {} now, {} after the next start ({})", change.field, change.now, change.wanted, change.why)
}

const fn restart(vm: &Vm) -> &'static str {
    match vm.restart {
        waifud_model::vm::RestartPolicy::OnFailure => "on-failure",
        waifud_model::vm::RestartPolicy::Always => "always",
        waifud_model::vm::RestartPolicy::Never => "never",
    }
}

/// Where a VM would go.
pub(crate) fn preview(preview: &PlacementPreview, look: &Look) -> Details {
    Details::default()
        .with("node", &preview.placement.node)
        .with("because", reasons(&preview.placement))
        .with("template", format!("{}@{}", preview.template.name, look.digest(preview.template.version)))
        .with("disk", look.size(preview.disk))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::{Format, Out, Terminal};
    use expect_test::expect;
    use waifud_api::{
        time::Time,
        vm::{LastError, Silent},
    };
    use waifud_model::time::Timestamp;

    /// A running VM, as the API tells it.
    pub(crate) fn vm() -> Vm {
        serde_json::from_str(
            r#"{
                "id": "ec270707-0707-4707-8707-070707070707", "name": "web-1", "node": "n2",
                "status": { "state": "running", "since": "2026-03-01T12:00:10Z", "pending": false, "met": ["lease", "metadata"],
                            "cpu_percent": 12, "memory_used": 3328180224 },
                "desired": "running", "phase": "live", "cpus": 2, "memory": 4294967296, "disk": 10737418240,
                "template": { "name": "debian-12", "version": "9f3c21ab01cd0000000000000000000000000000000000000000000000000000" },
                "ip": "10.77.2.14", "mac": "52:54:0a:4d:02:0e", "labels": { "env": "prod", "team": "a,b" },
                "restart": "on_failure", "ssh_keys": ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"],
                "user_data": { "digest": "00000000000000000000000000000000000000000000000000000000000000ff", "size": 120 },
                "network_config": { "digest": "00000000000000000000000000000000000000000000000000000000000000fe", "size": 42 },
                "datasource": "no_cloud", "imds": "v2", "instance_id": "i-ec270707070747078707070707070707-1",
                "generation": 1, "created_at": "2026-03-01T12:00:00Z"
            }"#,
        )
        .unwrap()
    }

    /// An hour after the VM was made.
    pub(crate) fn look(human: bool) -> Look {
        let now: Time = "2026-03-01T13:00:00Z".parse().unwrap();
        Look { human, colour: false, now }
    }

    fn several() -> Vec<Vm> {
        let mut stopped = vm();
        stopped.name = "db-1".parse().unwrap();
        stopped.status.state = VmState::Stopped;
        stopped.desired = Desired::Stopped;
        stopped.status.met.clear();
        stopped.status.cpu_percent = None;
        stopped.status.memory_used = None;
        let mut silent = vm();
        silent.name = "old-1".parse().unwrap();
        silent.status.cpu_percent = None;
        silent.status.memory_used = None;
        silent.status.silent = Some(Silent { since: Some(Time(Timestamp(look(true).now.0.0 - 12 * 60_000))) });
        let mut leaving = vm();
        leaving.name = "tmp-1".parse().unwrap();
        leaving.phase = Phase::Deleting;
        vec![stopped, silent, leaving, vm()]
    }

    fn shown(format: Option<Format>, human: bool) -> String {
        Out::of(format, look(human), Terminal { out: human, ..Terminal::default() }).list_text(&several()).unwrap()
    }

    #[test]
    fn a_list_on_a_terminal_and_in_a_pipe() {
        expect![[r#"
            NAME   STATUS                                  NODE  CPU     MEMORY  IP          UP
            db-1   stopped                                 n2      -    -/4 GiB  10.77.2.14  -
            old-1  unknown (n2 silent for 12min; running)  n2      -    -/4 GiB  10.77.2.14  -
            tmp-1  running (deleting)                      n2    12%  3.1/4 GiB  10.77.2.14  59min
            web-1  running                                 n2    12%  3.1/4 GiB  10.77.2.14  59min
        "#]]
        .assert_eq(&shown(None, true));
        expect![[r#"
            db-1|stopped|n2|-|4294967296|10.77.2.14|-
            old-1|unknown|n2|-|4294967296|10.77.2.14|-
            tmp-1|deleting|n2|12|4294967296|10.77.2.14|2026-03-01T12:00:10.000Z
            web-1|running|n2|12|4294967296|10.77.2.14|2026-03-01T12:00:10.000Z
        "#]]
        .assert_eq(&shown(None, false).replace('\t', "|"));
        expect![[r#"
            NAME   STATUS                                  NODE  CPU     MEMORY  IP          UP     CPUS  USED     DISK    TEMPLATE                LABELS             SEEN            MAC                CREATED  ID
            db-1   stopped                                 n2      -    -/4 GiB  10.77.2.14  -      2     -        10 GiB  debian-12@9f3c21ab01cd  env=prod,team=a,b  -               52:54:0a:4d:02:0e  1h       ec270707-0707-4707-8707-070707070707
            old-1  unknown (n2 silent for 12min; running)  n2      -    -/4 GiB  10.77.2.14  -      2     -        10 GiB  debian-12@9f3c21ab01cd  env=prod,team=a,b  lease,metadata  52:54:0a:4d:02:0e  1h       ec270707-0707-4707-8707-070707070707
            tmp-1  running (deleting)                      n2    12%  3.1/4 GiB  10.77.2.14  59min  2     3.1 GiB  10 GiB  debian-12@9f3c21ab01cd  env=prod,team=a,b  lease,metadata  52:54:0a:4d:02:0e  1h       ec270707-0707-4707-8707-070707070707
            web-1  running                                 n2    12%  3.1/4 GiB  10.77.2.14  59min  2     3.1 GiB  10 GiB  debian-12@9f3c21ab01cd  env=prod,team=a,b  lease,metadata  52:54:0a:4d:02:0e  1h       ec270707-0707-4707-8707-070707070707
        "#]].assert_eq(&shown(Some(Format::Wide), true));
        expect![[r#"
            name,status,node,cpu,memory,ip,up,cpus,used,disk,template,labels,seen,mac,created,id
            db-1,stopped,n2,-,4294967296,10.77.2.14,-,2,-,10737418240,debian-12@9f3c21ab01cd0000000000000000000000000000000000000000000000000000,"env=prod,team=a,b",-,52:54:0a:4d:02:0e,2026-03-01T12:00:00.000Z,ec270707-0707-4707-8707-070707070707
            old-1,unknown,n2,-,4294967296,10.77.2.14,-,2,-,10737418240,debian-12@9f3c21ab01cd0000000000000000000000000000000000000000000000000000,"env=prod,team=a,b","lease,metadata",52:54:0a:4d:02:0e,2026-03-01T12:00:00.000Z,ec270707-0707-4707-8707-070707070707
            tmp-1,deleting,n2,12,4294967296,10.77.2.14,2026-03-01T12:00:10.000Z,2,3328180224,10737418240,debian-12@9f3c21ab01cd0000000000000000000000000000000000000000000000000000,"env=prod,team=a,b","lease,metadata",52:54:0a:4d:02:0e,2026-03-01T12:00:00.000Z,ec270707-0707-4707-8707-070707070707
            web-1,running,n2,12,4294967296,10.77.2.14,2026-03-01T12:00:10.000Z,2,3328180224,10737418240,debian-12@9f3c21ab01cd0000000000000000000000000000000000000000000000000000,"env=prod,team=a,b","lease,metadata",52:54:0a:4d:02:0e,2026-03-01T12:00:00.000Z,ec270707-0707-4707-8707-070707070707
        "#]].assert_eq(&shown(Some(Format::Csv), true).replace('\r', ""));
        expect![[r#"
            db-1
            old-1
            tmp-1
            web-1
        "#]]
        .assert_eq(&shown(Some(Format::Name), true));
    }

    #[test]
    fn what_is_tried_in_vain_says_when_it_is_tried_again() {
        let mut vm = vm();
        vm.status.state = VmState::Failed;
        vm.status.last_error = Some(LastError {
            message: "no space left on device".to_owned(),
            at: Some("2026-03-01T12:58:00Z".parse().unwrap()),
            attempts: Some(3),
            next_try: Some("2026-03-01T13:00:42Z".parse().unwrap()),
        });
        let told =
            |vm: &Vm, human| details(vm, &look(human)).render().lines().skip(1).take(5).collect::<Vec<_>>().join("\n");
        expect![[r#"
            status          failed
            since           59min ago
            error           no space left on device (tried 3 times)
            in vain for     2min
            next try        in 42s"#]]
        .assert_eq(&told(&vm, true));
        expect![[r#"
            status          failed
            since           2026-03-01T12:00:10.000Z
            error           no space left on device (tried 3 times)
            in vain for     2026-03-01T12:58:00.000Z
            next try        2026-03-01T13:00:42.000Z"#]]
        .assert_eq(&told(&vm, false));
        vm.status.last_error.as_mut().unwrap().next_try = Some("2026-03-01T12:59:59Z".parse().unwrap());
        assert!(told(&vm, true).ends_with("next try        now"));
    }

    #[test]
    fn one_vm_with_its_details() {
        expect![[r#"
            name            web-1
            status          running
            since           59min ago
            node            n2
            ip              10.77.2.14 (allocated; seen: DHCP lease, metadata)
            cpus            2
            cpu use         12%
            memory          4 GiB
            memory use      3.1 GiB
            disk            10 GiB
            firmware        bios
            cpu model       host
            template        debian-12@9f3c21ab01cd
            labels          env=prod
                            team=a,b
            restart         on-failure
            autostart       yes
            ssh keys        ssh-ed25519 AAAA me
                            ssh-rsa BBBB you
            user-data       120 bytes, BLAKE3 000000000000
            network-config  42 bytes, BLAKE3 000000000000
            datasource      no_cloud
            imds            v2
            instance-id     i-ec270707070747078707070707070707-1
            mac             52:54:0a:4d:02:0e
            created         1h ago
            generation      1
            id              ec270707-0707-4707-8707-070707070707
        "#]]
        .assert_eq(&details(&vm(), &look(true)).render());
        let yaml = Out::of(Some(Format::Yaml), look(false), Terminal::default()).list_text(&[vm()]).unwrap();
        expect![[r#"
            - id: ec270707-0707-4707-8707-070707070707
              name: web-1
              node: n2
              status:
                state: running
                since: "2026-03-01T12:00:10.000Z"
                pending: false
                met:
                - lease
                - metadata
                cpu_percent: 12
                memory_used: 3328180224
              desired: running
              phase: live
              cpus: 2
              memory: 4294967296
              disk: 10737418240
              template:
                name: debian-12
                version: 9f3c21ab01cd0000000000000000000000000000000000000000000000000000
              ip: "10.77.2.14"
              mac: 52:54:0a:4d:02:0e
              labels:
                env: prod
                team: a,b
              restart: on_failure
              protected: false
              autostart: true
              firmware: bios
              cpu_model: host
              ssh_keys:
              - ssh-ed25519 AAAA me
              - ssh-rsa BBBB you
              user_data:
                digest: 00000000000000000000000000000000000000000000000000000000000000ff
                size: 120
              network_config:
                digest: 00000000000000000000000000000000000000000000000000000000000000fe
                size: 42
              datasource: no_cloud
              imds: v2
              instance_id: i-ec270707070747078707070707070707-1
              generation: 1
              created_at: "2026-03-01T12:00:00.000Z"
        "#]]
        .assert_eq(&yaml);
    }
}
