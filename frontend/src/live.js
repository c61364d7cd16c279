// The one WebSocket of a page. Its messages are hints: they say that something changed, and the
// parts of the page that care ask the server again. Nothing here draws what a message says.
import { delayMs } from "./backoff.js";

const COALESCE_MS = 250; // a burst of events is one refresh
const AT_LEAST_EVERY_MS = 1500; // and a steady stream of them still refreshes
const HIDDEN_EVERY_MS = 10_000; // a tab that nobody looks at keeps only its title true

/**
 * Collects changes and tells the page once per burst: after a short silence, or at the latest when
 * the oldest of them has waited long enough.
 */
export function makeCoalescer(tell, { now = Date.now, later = setTimeout, cancel = clearTimeout, isHidden } = {}) {
  const hidden = isHidden ?? (() => document.hidden);
  let timer = null;
  let first = null;
  let types = new Set();
  function fire() {
    const seen = [...types];
    timer = first = null;
    types = new Set();
    tell(seen);
  }
  return function changed(type) {
    types.add(type);
    first ??= now();
    const silence = hidden() ? HIDDEN_EVERY_MS : COALESCE_MS;
    const latest = first + (hidden() ? HIDDEN_EVERY_MS : AT_LEAST_EVERY_MS);
    if (timer !== null) cancel(timer);
    timer = later(fire, Math.max(0, Math.min(now() + silence, latest) - now()));
  };
}

function dispatch(name, detail) {
  document.body.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
}

/** Says in words and colour whether the page is live. */
function showConnection(state, since) {
  for (const dot of document.querySelectorAll("[data-connection]")) {
    dot.dataset.connection = state;
    const clock = since?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const text = { live: "Live", connecting: "Connecting", reconnecting: "Reconnecting", offline: `Offline since ${clock}` }[state];
    const label = dot.querySelector("[data-connection-text]");
    if (label) label.textContent = text;
    dot.title = text;
  }
}

class Live {
  constructor(url) {
    this.url = new URL(url, location.href);
    this.url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.attempt = 0;
    this.lostAt = null;
    this.timer = null;
    this.changed = makeCoalescer((types) => dispatch("eklavya:change", { types }));
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.socket = new WebSocket(this.url);
    this.socket.addEventListener("message", (event) => this.received(event.data));
    this.socket.addEventListener("close", (event) => this.closed(event));
  }

  received(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof message?.type !== "string") return;
    if (message.type === "hello") this.listening();
    dispatch(`eklavya:${message.type}`, message.payload ?? {});
    // A growing transcript fetches its own tail; the page around it need not move for each line.
    if (message.type !== "run:events") this.changed(message.type);
  }

  /**
   * From now on nothing is missed. What happened since the page was rendered, or while the connection was lost, was:
   * the hello is news like any other, so everything is asked for again.
   */
  listening() {
    this.attempt = 0;
    this.lostAt = null;
    showConnection("live");
  }

  closed(event) {
    this.lostAt ??= new Date();
    if (event.code === 4401 || event.code === 4403) {
      showConnection("offline", this.lostAt); // signed out, or no right to this project: asking again cannot help
      return;
    }
    showConnection(this.attempt < 3 ? "reconnecting" : "offline", this.lostAt);
    this.timer = setTimeout(() => this.connect(), delayMs(this.attempt));
    this.attempt += 1;
  }

  /** Try now instead of waiting for the next attempt. */
  hurry() {
    if (this.timer === null) return;
    this.attempt = 0;
    this.connect();
  }
}

export function startLive() {
  const url = document.body.dataset.liveUrl;
  if (!url) return;
  const live = new Live(url);
  showConnection("connecting");
  live.connect();
  addEventListener("online", () => live.hurry());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    live.hurry();
    live.changed("visible");
  });
  // Leaving closes the socket in an orderly way and keeps the page in the back/forward cache. One that is not open
  // yet ends with the page; to close it would be reported as an error.
  addEventListener("pagehide", () => live.socket.readyState === WebSocket.OPEN && live.socket.close(1000));
  addEventListener("pageshow", (event) => event.persisted && live.connect());
}
