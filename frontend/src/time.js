// Times that move: how long something runs, and how long ago it was.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** 7s, 4m 05s, 2h 03m, 3d 4h: at most two units, the second padded so that the text does not jump. */
export function formatElapsed(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const pad = (n) => String(n).padStart(2, "0");
  if (s < MINUTE) return `${s}s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)}m ${pad(s % MINUTE)}s`;
  if (s < DAY) return `${Math.floor(s / HOUR)}h ${pad(Math.floor((s % HOUR) / MINUTE))}m`;
  return `${Math.floor(s / DAY)}d ${Math.floor((s % DAY) / HOUR)}h`;
}

/** now, 5 min ago, 3 h ago, yesterday, 6 days ago; older: null, and the server's date stays. */
export function formatAgo(seconds) {
  if (seconds < 45) return "just now";
  if (seconds < HOUR) return `${Math.max(1, Math.round(seconds / MINUTE))} min ago`;
  if (seconds < DAY) return `${Math.round(seconds / HOUR)} h ago`;
  if (seconds < 2 * DAY) return "yesterday";
  if (seconds < 14 * DAY) return `${Math.floor(seconds / DAY)} days ago`;
  return null;
}

function setText(element, text) {
  if (text !== null && element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[data-elapsed]")) {
    setText(time, formatElapsed((now - Date.parse(time.dateTime)) / 1000));
  }
  for (const time of document.querySelectorAll("time[data-ago]")) {
    setText(time, formatAgo((now - Date.parse(time.dateTime)) / 1000));
    time.title ||= new Date(time.dateTime).toLocaleString();
  }
  for (const time of document.querySelectorAll("time[data-clock]")) {
    const clock = new Date(time.dateTime).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    setText(time, clock);
    time.title ||= new Date(time.dateTime).toLocaleString();
  }
}

export function startClock() {
  tick();
  setInterval(() => document.hidden || tick(), 1000);
  document.addEventListener("htmx:after:swap", tick);
  document.addEventListener("visibilitychange", tick);
}
