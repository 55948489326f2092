// The nodes: who is there, what they vote, what is left on them.
import { size, since } from "./format.js";

function share(reserved, total) {
  return total > 0 ? Math.min(100, Math.round((100 * reserved) / total)) : 0;
}

export function nodeList() {
  return {
    get rows() {
      const now = this.$store.cluster.now;
      return this.$store.cluster.nodes.map((node) => ({
        id: node.id,
        name: node.name,
        address: node.address,
        role: node.role,
        state: node.alive ? (node.cordoned ? "cordoned" : "alive") : "silent",
        badge: `badge ${node.alive ? (node.cordoned ? "cordoned" : "running") : "failed"}`,
        since: node.alive ? "" : since(node.since, now),
        vms: node.vms,
        memory: `${size(node.reserved.memory)} of ${size(node.capacity.memory)}`,
        memoryShare: share(node.reserved.memory, node.capacity.memory),
        cpus: `${node.reserved.cpus} of ${node.capacity.cpus}`,
        cpuShare: share(node.reserved.cpus, node.capacity.cpus),
      }));
    },
  };
}
