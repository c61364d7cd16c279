// Counts that live outside the region which refreshes: the navigation and the tab's title.

function baseTitle() {
  return document.title.replace(/^\(\d+\)\s+/, "");
}

/** Copies the newest numbers of the page into the shell. */
export function showCounts() {
  const source = document.querySelector("[data-needs-you]");
  if (!source) return;
  const count = Number(source.dataset.needsYou);
  for (const badge of document.querySelectorAll("[data-needs-you-badge]")) {
    badge.textContent = count > 99 ? "99+" : String(count);
    badge.hidden = count === 0;
  }
  for (const spend of document.querySelectorAll("[data-spend-badge]")) spend.textContent = source.dataset.spendToday;
  document.title = count ? `(${count}) ${baseTitle()}` : baseTitle();
}

export function startBadge() {
  showCounts();
  document.addEventListener("htmx:after:swap", showCounts);
  document.addEventListener("htmx:finally:swap", showCounts); // htmx sets a new title between the two
}
