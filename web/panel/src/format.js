// How values look to people. Pure, so that node's own test runner can check it.

const UNITS = [
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
];

/** Bytes in the largest binary unit that is at least one. */
export function size(bytes) {
  if (bytes === undefined || bytes === null) return "–";
  for (const [unit, name] of UNITS) {
    if (bytes >= unit) {
      const value = bytes / unit;
      return `${Number.isInteger(value) ? value : value.toFixed(1)} ${name}`;
    }
  }
  return `${bytes} B`;
}

const SIGHTINGS = {
  lease: "a DHCP lease",
  arp: "an ARP answer",
  agent: "its guest agent",
  metadata: "a metadata request",
};

/** By what a guest was met at its address; a word of a newer node is shown as it is. */
export function met(words) {
  if (!words?.length) return "allocated; the guest has not been met there yet";
  return `the guest was met by ${words.map((word) => SIGHTINGS[word] ?? word).join(", ")}`;
}

/** A span of milliseconds in its one largest unit: 42 s, 12 min, 3 h, 41 d. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago an RFC 3339 time was, seen from `now` (milliseconds). */
export function since(text, now) {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? "" : span(now - at);
}
