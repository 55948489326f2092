import { test } from "node:test";
import assert from "node:assert/strict";
import { met, size, span, since } from "../src/format.js";

test("sizes take the largest unit that is at least one", () => {
  assert.equal(size(512 * 2 ** 20), "512 MiB");
  assert.equal(size(1.5 * 2 ** 30), "1.5 GiB");
  assert.equal(size(0), "0 B");
  assert.equal(size(undefined), "–");
});

test("spans take one unit", () => {
  assert.equal(span(42_000), "42 s");
  assert.equal(span(12 * 60_000), "12 min");
  assert.equal(span(41 * 86_400_000), "41 d");
  assert.equal(span(-5), "0 s");
});

test("an address says how it is known", () => {
  assert.match(met(undefined), /not been met/);
  assert.equal(met(["lease", "metadata", "sonar"]), "the guest was met by a DHCP lease, a metadata request, sonar");
});

test("an unreadable time shows nothing", () => {
  assert.equal(since("never", 0), "");
  assert.equal(since("1970-01-01T00:00:00Z", 5000), "5 s");
});
