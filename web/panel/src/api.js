// Talks to the node that served this page. Same origin only: a page cannot fetch across origins.

/** How long a read may take before the panel says so, in milliseconds. */
const READ_TIMEOUT = 5000;

/** A failed request: the server's problem document where there was one, else the network's own words. */
export class ApiError extends Error {
  constructor(message, problem) {
    super(message);
    this.problem = problem;
  }
}

/**
 * Reads one document.
 * @param {string} path below /api/v1
 * @returns {Promise<{body: any, headers: Headers}>}
 */
export async function read(path) {
  const response = await fetch(`/api/v1${path}`, {
    headers: { accept: "application/json" },
    signal: AbortSignal.timeout(READ_TIMEOUT),
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw new ApiError(problem?.detail ?? `${response.status} ${response.statusText}`, problem);
  }
  return { body: await response.json(), headers: response.headers };
}
