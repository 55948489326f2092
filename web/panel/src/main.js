// The panel's entry: registers the shared store and the page's components, then starts Alpine.
// The CSP build evaluates only plain property paths and calls, so every expression in the HTML is a name.
import Alpine from "@alpinejs/csp";
import { createCluster } from "./cluster.js";
import { vmList } from "./vm-list.js";
import { nodeList } from "./node-list.js";
import { header } from "./header.js";

Alpine.store("cluster", createCluster());
Alpine.data("pageHeader", header);
Alpine.data("vmList", vmList);
Alpine.data("nodeList", nodeList);
Alpine.start();
Alpine.store("cluster").start();
