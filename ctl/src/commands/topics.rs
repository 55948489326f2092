//! The topics of `help` that are no commands.

use waifud_api::exit::Exit;

/// A topic: its name, what it is about in a few words, its text.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) text: fn() -> String,
}

/// All topics, in the order in which they are worth reading.
pub(super) const ALL: [Topic; 8] = [
    Topic { name: "output", about: "forms of results, columns, colours, watching", text: || OUTPUT.to_owned() },
    Topic { name: "filters", about: "choosing VMs and rows", text: || FILTERS.to_owned() },
    Topic { name: "contexts", about: "several clusters, from any machine", text: || CONTEXTS.to_owned() },
    Topic { name: "waiting", about: "what is waited for, and what Ctrl-C does", text: || WAITING.to_owned() },
    Topic { name: "ssh", about: "how ssh finds user, address and way", text: || SSH.to_owned() },
    Topic { name: "cloud-init", about: "what guests are told when they boot", text: || CLOUD_INIT.to_owned() },
    Topic { name: "exit-codes", about: "how waifuctl ends", text: exit_codes },
    Topic { name: "environment", about: "variables and files", text: || ENVIRONMENT.to_owned() },
];

/// The topics with what each is about.
pub(super) fn list() -> String {
    let line = |topic: &Topic| format!("  waifuctl help {:12} {}\n", topic.name, topic.about);
    ALL.iter().map(line).collect()
}

pub(super) fn exit_codes() -> String {
    let lines: String = Exit::ALL.iter().map(|exit| format!("  {}  {}\n", exit.code(), exit.meaning())).collect();
    format!(
        "How waifuctl ends:\n\n{lines}\nResults are on stdout, everything else on stderr.\n\
         waifuctl ssh ends as ssh does; waifuctl doctor with 1 if something is wrong.\n"
    )
}

const OUTPUT: &str = "\
Results go to stdout, everything else to stderr. The form is chosen by -o:

  table  aligned columns (on a terminal, the default), short and relative: 4 GiB, 12min
  wide   the same with more columns
  json   what the API sent; full names and values. Lists are arrays, streams an object a line
  yaml   the same as YAML
  csv    all columns with a heading (RFC 4180), full values
  name   names only, one a line

In a pipe and without -o: full values between tabs, without a heading; sizes in bytes, times in RFC 3339.

  waifuctl ls | while IFS=$'\\t' read -r name status node rest; do …; done
  waifuctl ls -o json | jq -r '.[] | select(.status.pending) | .name'
  waifuctl ls --columns name,ip,labels

JSON is the API's own, as /api/v1/openapi.json describes it: fields are added, never renamed or taken away. A field that is
not there is not known. The same holds for what only waifuctl knows, of which a field with ? may be missing:

  apply:            kind, name, action, outcome, error?
  apply --dry-run:  kind, name, action, node?, fields?, why?, notes?
  config list:      key, value
  context list:     name, current, hosts, token_file?, ca_file?, jump?
  doctor:           subject, check, verdict, seen, means?, remedy?
  ip:               name, ip
  version:          version

--watch (list, show) goes on: on a terminal the table is drawn anew in its place, in a pipe each change is a line; with -o json
{\"change\":\"there|changed|gone\",\"vm\":{…}}. It follows the cluster's events, looks every 2 seconds while there are none to
be had, and ends with Ctrl-C.

A default for terminals: waifuctl config set output wide. Pipes never depend on it.
";

const CONTEXTS: &str = "\
A context is a cluster: where its nodes are, the CA they must show, the token to speak with.

  waifuctl login https://n1:7443,https://n2:7443 --name home
      shows the fingerprint of the cluster's CA and asks; pins it; asks for a token; notes all that as the context home
  waifuctl context list
  waifuctl context use work
  waifuctl --context home ls

On a node, root and the group waifud need none of this: without --host and contexts the local socket is asked.
Make the token on a node:            waifuctl token create --role operator --for laptop
  one that sees only some VMs:       waifuctl token create --role operator --scope team=web
Compare the fingerprint on a node:   waifuctl cluster status

Several hosts: the first that answers is asked, and when it goes away the next, also in the middle of a wait or of
events --follow: they go on where they were, with nothing lost or told twice.

What counts, the first that is given: --host, --context, WAIFU_HOST, WAIFU_CONTEXT, waifuctl context use, the local socket.
A context's token and CA go to its own hosts only. All is in $XDG_CONFIG_HOME/waifu (~/.config/waifu): config.toml, and beside
it NAME.token (readable by you alone) and NAME.ca.pem.
";

const WAITING: &str = "\
Commands that change a VM wait until it is so, and tell what is going on: phases with the time each took. On a terminal with a
running clock; elsewhere a line for each phase that is done; with --quiet nothing.

  --wait WHAT     create: running, ip, ssh or cloud-init, as with waifuctl wait [default: until its guest has begun]
  --no-wait       do not wait; prints how to follow it
  --timeout 10m   for how long to wait [default: 5m; waifuctl config set timeout 10m]
  Ctrl-C          stops waiting, never the work: says which node goes on with what, and how to follow it. Exit status 6

A wait that ends first is exit status 6 and no failure: the work goes on. While the VM's node is silent it says so, and waits
on until the time is over: the node does the work when it is back. For scripts:

  waifuctl wait NAME --for running      its guest runs
  waifuctl wait NAME --for ip           … and has been seen at its address, which is printed
  waifuctl wait NAME --for ssh          … and answers as an SSH server
  waifuctl wait NAME --for cloud-init   … and its cloud-init is done
  waifuctl wait NAME --for stopped      it is stopped
  waifuctl wait NAME --for gone         it is deleted

Guests tell their node when cloud-init is done, where they were asked to (waifuctl help cloud-init), and it is asked through
ssh meanwhile; whichever answers first counts. A guest tells that all was run, not that all went well. With an option of
ssh's (-i, -l, …), waifuctl wait asks through ssh alone, where cloud-init also says what failed.
";

const SSH: &str = "\
waifuctl ssh NAME [-- COMMAND] runs ssh with what the cluster knows:

  user     --login; else the user that the VM's cloud-config makes; else the one that images of its template have (debian, ubuntu,
           fedora, …); else waifuctl config set user
  way      direct, where this machine has a route of its own to the VM: it is a node, or a peer (waifuctl net peer add), or
           Tailscale brings it there. Else through a node (ssh -J): --jump, else the context's, else the host that answers
  key      host keys are kept for each life of each VM in $XDG_STATE_HOME/waifu/known_hosts (~/.local/state/waifu): a VM that
           was made anew or began a new life under the same name and address is no alarm, another key of the same one is

  waifuctl ssh web-1 --print     only prints the command
  waifuctl ssh web-1 -- uptime   ends as the command does
";

const ENVIRONMENT: &str = "\
What waifuctl takes from the environment; an option of the same meaning wins:

  WAIFU_HOST        where the API is: unix:/path or https://host[:port], several with commas (--host)
  WAIFU_CONTEXT     the context to be used (--context)
  WAIFU_TOKEN_FILE  a file with an API token (--token-file)
  WAIFU_TOKEN       an API token
  WAIFU_CA_FILE     the certificate of the CA that https endpoints must have (--ca-file)
  VISUAL, EDITOR    the editor for waifuctl edit, as the shell reads it: code --wait
  NO_COLOR          if set, no colours
  CLICOLOR_FORCE    if set and not 0, colours in pipes too
  XDG_CONFIG_HOME   where waifu/config.toml is: contexts and defaults [~/.config]
  XDG_STATE_HOME    where waifu/known_hosts is: the host keys of guests [~/.local/state]

Without any of these, --host and a context it is the local socket, /run/waifud/api.sock: for root and the group waifud.
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

Where the cluster has no vendor-data, guests are given some that asks them to tell their node when cloud-init is done
(phone_home, to 169.254.169.254); waifuctl show says so then. Not with ec2, --imds v2 or a network-config, nor where
user-data has a phone_home of its own, which holds: there nobody knows but the guest.

cloud-init does most things once in the life of a guest, which it tells by the instance-id. So an edit says which is meant:

  --keep   the same instance-id. What was done stays, and only what cloud-init looks at on every boot takes effect.
  --rerun  a new instance-id. At the next boot everything runs again, as on the first: users, packages, runcmd.

Nothing takes effect before the next boot: waifuctl reboot NAME. waifuctl reinit NAME begins on a new root disk, where
everything runs as on the first boot.
";

const FILTERS: &str = "\
Filters choose what is listed. Terms stand side by side, and all must hold:

  node=n1            placed on this node
  status=running     last seen like this: pending, fetching, preparing, running, paused, stopping, stopped,
                     crashed, failed, deleting, unknown (its node is silent)
  template=debian-12 made from this template
  label.env=prod     with this label
  web                the name contains this

A value with spaces stands in double quotes: label.team=\"two words\".

  waifuctl list node=n1 status=running label.env=prod
  waifuctl list -N n1 --status running -l env=prod     the same as options

Other lists take their columns as keys, in full values, and label.KEY where there are labels:

  waifuctl node list role=voter status=alive -l zone=a
  waifuctl token list role=admin
";
