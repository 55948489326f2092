// Drives the panel in a real Chromium against a real node and fails on anything a person or axe-core would stumble over.
// In: PANEL_URL (a node's panel, signed in), CHROMIUM (default /usr/bin/chromium), SHOTS (a directory for pictures),
// EXPECT_VM and EXPECT_NODES (what must be on the page), EXPECT_STALE (whether it must say that there is no quorum; without
// it, it must not). Exit status 0 when all is well; each finding is a line.
import { chromium } from "playwright-core";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";

const url = process.env.PANEL_URL;
const shots = process.env.SHOTS;
const expectVm = process.env.EXPECT_VM;
const expectNodes = (process.env.EXPECT_NODES ?? "").split(",").filter(Boolean);
const expectStale = Boolean(process.env.EXPECT_STALE);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
// A sign-in link works once: what it leaves in the browser serves all the visits after it.
const entrance = await browser.newContext();
const first = await entrance.newPage();
await first.goto(url);
const signedIn = await entrance.storageState();
const home = new URL("/", first.url()).href;
await entrance.close();

const findings = [];
for (const colorScheme of ["light", "dark"]) {
  for (const [name, viewport] of [["desktop", { width: 1200, height: 800 }], ["phone", { width: 360, height: 740 }]]) {
    const context = await browser.newContext({ colorScheme, viewport, storageState: signedIn });
    const page = await context.newPage();
    const where = `${colorScheme}/${name}`;
    page.on("pageerror", (error) => findings.push(`${where}: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error") findings.push(`${where}: console: ${message.text()}`);
    });
    await page.goto(home);
    if (expectVm) await page.getByRole("rowheader", { name: expectVm, exact: true }).waitFor({ timeout: 15_000 });
    for (const node of expectNodes) await page.getByRole("rowheader", { name: node, exact: true }).waitFor({ timeout: 15_000 });
    const banner = page.getByText("No quorum: what you see is this node's own copy.");
    if (expectStale) await banner.waitFor({ timeout: 15_000 });
    else if (await banner.isVisible()) findings.push(`${where}: the page says that there is no quorum`);
    if (expectVm) {
      await page.keyboard.press("/");
      await page.keyboard.type("no such vm");
      await page.getByText("No VM matches the search.").waitFor({ timeout: 5_000 });
      await page.getByRole("searchbox").fill(expectVm);
      await page.getByRole("rowheader", { name: expectVm, exact: true }).waitFor({ timeout: 5_000 });
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    if (wide) findings.push(`${where}: the page is wider than the window`);
    if (shots) await page.screenshot({ path: `${shots}/${colorScheme}-${name}.png`, fullPage: true });
    // axe runs in the page's isolated evaluation, which the page's CSP does not bind.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    for (const violation of violations) {
      findings.push(`${where}: axe ${violation.id}: ${violation.help} (${violation.nodes.map((n) => n.target.join(" ")).join("; ")})`);
    }
    await context.close();
  }
}
await browser.close();
for (const finding of findings) console.error(finding);
console.log(`${findings.length} findings`);
process.exit(findings.length === 0 ? 0 : 1);
