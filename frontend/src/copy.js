// Buttons that copy: the text of an element, or a value of their own.

const SHOWN_MS = 1600;

async function copy(button) {
  const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
  const text = source ? (source.value ?? source.textContent) : button.dataset.copy;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(text.trim());
  } catch {
    said = "Press Ctrl C";
    if (source) getSelection().selectAllChildren(source);
  }
  const label = button.querySelector("[data-copy-label]");
  button.dataset.copied = "";
  const before = label?.textContent;
  if (label) label.textContent = said;
  setTimeout(() => {
    delete button.dataset.copied;
    if (label) label.textContent = before;
  }, SHOWN_MS);
}

export function startCopy() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy], [data-copy-from]");
    if (button) copy(button);
  });
}
