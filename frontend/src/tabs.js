// On a narrow screen the tabs scroll: the current one starts in view.

export function startTabs() {
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const box = tab.parentElement;
    box.scrollLeft = tab.offsetLeft - box.offsetLeft - (box.clientWidth - tab.clientWidth) / 2;
  }
}
