// Bundles the panel into dist/, which the web crate embeds. No file is fetched from anywhere at run time.
import { build } from "esbuild";
import { cp, mkdir, rm } from "node:fs/promises";

await rm("dist", { recursive: true, force: true });
await mkdir("dist", { recursive: true });
await build({
  entryPoints: { panel: "src/main.js", "panel-style": "src/panel.css" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "linked",
  entryNames: "[name]",
});
await cp("src/index.html", "dist/index.html");
await cp("src/icon.svg", "dist/icon.svg");
