// Keyboard: g then a letter goes somewhere, c composes, / searches. Never while typing.

const AFTER_G_MS = 1200;
let gAt = 0;

function isTyping(target) {
  return target.matches?.("input, textarea, select, [contenteditable]") || target.closest?.("dialog[open]");
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
  const key = event.key.toLowerCase();
  const goes = Date.now() - gAt < AFTER_G_MS;
  gAt = key === "g" && !goes ? Date.now() : 0;
  if (gAt) return;
  const target = goes
    ? document.querySelector(`a[data-go="${CSS.escape(key)}"]`)
    : document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input, textarea")) target.focus();
  else target.click();
}

export function startKeys() {
  document.addEventListener("keydown", keyed);
}
