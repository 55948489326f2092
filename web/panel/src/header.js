// The header: which node serves the page, is there a quorum, and how old is what is shown.
import { span } from "./format.js";

export function header() {
  return {
    get cluster() {
      return this.$store.cluster;
    },
    get servedBy() {
      return this.cluster.status?.answered_by ?? "";
    },
    get quorum() {
      const status = this.cluster.status;
      if (!status) return "";
      return status.quorum ? `quorum, leader ${status.leader ?? "being chosen"}` : "no quorum";
    },
    get quorumClass() {
      return this.cluster.status?.quorum ? "ok" : "bad";
    },
    get age() {
      return span(this.cluster.now - this.cluster.readAt);
    },
    get lost() {
      return this.cluster.loaded && Boolean(this.cluster.error) && !this.cluster.live;
    },
    get failed() {
      return !this.cluster.loaded && Boolean(this.cluster.error);
    },
    get stale() {
      return this.cluster.loaded && !this.cluster.error && this.cluster.status?.quorum === false;
    },
    get loading() {
      return !this.cluster.loaded && !this.cluster.error;
    },
  };
}
