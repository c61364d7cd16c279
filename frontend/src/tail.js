// A transcript's end asks for what follows when it hears of news, and is replaced by the answer. News that comes while the
// answer is on its way has nobody to hear it: the newest line is remembered, and an end that is behind asks once more.

const newest = new Map();
const asked = new Map();

function heard({ detail }) {
  if (detail?.runId) newest.set(detail.runId, Math.max(detail.lastSeq, newest.get(detail.runId) ?? 0));
}

/** Look at the ends in what htmx has just made able to hear. */
function catchUp({ target }) {
  const ends = [...(target.querySelectorAll?.("[data-tail-run]") ?? [])];
  if (target.matches?.("[data-tail-run]")) ends.push(target);
  for (const end of ends) {
    const { tailRun: run, tailSeq: shown } = end.dataset;
    const last = newest.get(run) ?? 0;
    // Once for each line, so that nothing the server answers makes it ask for ever.
    if (last <= Number(shown) || asked.get(run) === last) continue;
    asked.set(run, last);
    end.dispatchEvent(new CustomEvent("eklavya:behind"));
  }
}

export function startTail() {
  document.body.addEventListener("eklavya:run:events", heard);
  document.addEventListener("htmx:after:process", catchUp);
}
