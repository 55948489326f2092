// The one shared store: nodes, VMs and how fresh they are. Fed by the event stream; polls while the stream is away.
import { read } from "./api.js";
import { listen } from "./events.js";

/** Without an event for this long, the store polls (milliseconds). */
const QUIET = 15_000;
/** Several events at once cause one reading, this long after the first (milliseconds). */
const GATHER = 150;

export function createCluster() {
  return {
    nodes: [],
    vms: [],
    status: null,
    /** When the data was last read from the node, as Date.now(). */
    readAt: 0,
    /** Why the node's own copy may be out of date, in one word; empty when it is not. */
    stale: "",
    error: "",
    live: false,
    loaded: false,
    now: Date.now(),
    pending: 0,

    start() {
      this.refresh();
      listen({
        onEvent: () => this.soon(),
        onState: (live) => {
          this.live = live;
          if (live) this.soon();
        },
      });
      setInterval(() => {
        this.now = Date.now();
        if (!this.live && this.now - this.readAt > QUIET) this.refresh();
      }, 1000);
    },

    soon() {
      if (this.pending) return;
      this.pending = setTimeout(() => {
        this.pending = 0;
        this.refresh();
      }, GATHER);
    },

    async refresh() {
      try {
        const [vms, nodes, status] = await Promise.all([read("/vms"), read("/nodes"), read("/cluster")]);
        this.vms = vms.body;
        this.nodes = nodes.body;
        this.status = status.body;
        this.stale = vms.headers.get("waifu-stale") ?? "";
        this.readAt = Date.now();
        this.error = "";
        this.loaded = true;
      } catch (error) {
        this.error = error.message;
      }
    },
  };
}
