// The server-sent event stream. The browser resumes it by Last-Event-ID; this module only tells what comes and whether it is up.

/**
 * @param {{onEvent: (data: any) => void, onState: (live: boolean) => void}} handlers
 */
export function listen({ onEvent, onState }) {
  const source = new EventSource("/api/v1/events");
  source.onopen = () => onState(true);
  source.onerror = () => onState(false);
  const deliver = (message) => onEvent(message.data);
  source.onmessage = deliver;
  for (const name of ["event", "observed"]) source.addEventListener(name, deliver);
  return source;
}
