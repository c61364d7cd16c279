// What scrolls sideways says at which end there is more: `data-overflow` is "start", "end" or "both" (styles/parts.css).

const BOXES = ".tabs, .dag, .table-box";
const SLACK_PX = 2;

/** At which ends of a box there is more than is seen; empty when all is. */
export function hiddenEnds({ scrollLeft, clientWidth, scrollWidth }) {
  const start = scrollLeft > SLACK_PX;
  const end = scrollLeft + clientWidth < scrollWidth - SLACK_PX;
  if (start && end) return "both";
  if (start) return "start";
  return end ? "end" : "";
}

function mark(box) {
  const ends = hiddenEnds(box);
  if (ends) box.dataset.overflow = ends;
  else delete box.dataset.overflow;
}

/** A wide drawing starts where something happens. */
function showWork(box) {
  const node = box.querySelector('[data-tone="wait"], [data-tone="active"]');
  if (!node) return;
  const [outer, inner] = [box.getBoundingClientRect(), node.getBoundingClientRect()];
  if (inner.right > outer.right) box.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
}

const known = new WeakSet();

function attach() {
  for (const box of document.querySelectorAll(BOXES)) {
    if (!known.has(box)) {
      known.add(box);
      box.addEventListener("scroll", () => mark(box), { passive: true });
      if (box.matches(".dag")) showWork(box);
    }
    mark(box);
  }
}

export function startOverflow() {
  attach();
  addEventListener("resize", attach);
  document.addEventListener("htmx:after:swap", attach);
}
