// The list of VMs: one search box, kept in the page's address so that every filter has a link.
import { met, size, since } from "./format.js";

/** A list longer than this is cut, with a line that says so: the whole of a large cluster in one table helps nobody. */
const WINDOW = 300;

/** What stands behind the one word of the status. */
function explain(status, now) {
  if (status.silent) return `its node has been silent for ${since(status.silent.since, now)}`;
  if (status.last_error) return status.last_error.message;
  return status.pending ? `${status.state}; a change is on its way` : status.state;
}

export function vmList() {
  return {
    search: new URLSearchParams(location.hash.slice(1)).get("q") ?? "",

    init() {
      this.$watch("search", (text) => {
        history.replaceState(null, "", text ? `#${new URLSearchParams({ q: text })}` : location.pathname);
      });
    },

    onKey(event) {
      if (event.key !== "/" || event.target.matches("input, textarea")) return;
      event.preventDefault();
      this.$refs.search.focus();
    },

    get all() {
      return this.$store.cluster.vms;
    },
    get matching() {
      const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
      return this.all.filter((vm) => {
        const labels = Object.entries(vm.labels ?? {}).map(([key, value]) => `${key}=${value}`);
        const text = [vm.name, vm.node, vm.ip, vm.status.state, ...labels].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
    },
    get rows() {
      const now = this.$store.cluster.now;
      return this.matching.slice(0, WINDOW).map((vm) => ({
        id: vm.id,
        name: vm.name,
        node: vm.node,
        ip: vm.ip,
        met: met(vm.status.met),
        cpus: vm.cpus,
        memory: size(vm.memory),
        disk: size(vm.disk),
        template: vm.template?.name ?? "–",
        state: vm.status.state,
        title: explain(vm.status, now),
        badge: `badge ${vm.status.state}`,
        since: since(vm.status.since, now),
      }));
    },
    get summary() {
      const all = this.all.length;
      const shown = this.matching.length;
      if (shown > WINDOW) return `first ${WINDOW} of ${shown}; narrow the search to see the others`;
      return shown === all ? `${all} in the cluster` : `${shown} of ${all}`;
    },
    get empty() {
      return this.$store.cluster.loaded && this.all.length === 0;
    },
    get nothingMatches() {
      return this.all.length > 0 && this.matching.length === 0;
    },
  };
}
