// Forms: a button works once, a draft survives a reload, a shortcut sends.

const DRAFT = "eklavya:draft:";

function busy(form, submitter) {
  form.dataset.busy = "";
  for (const button of form.querySelectorAll("button:not([type=button])")) {
    // Not in this turn: a disabled button would not send its own name and value.
    setTimeout(() => (button.disabled = true));
  }
  submitter?.setAttribute("aria-busy", "true");
}

function free(form) {
  delete form.dataset.busy;
  for (const button of form.querySelectorAll("button:disabled:not([data-refused])")) {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

function submitted(event) {
  const form = event.target;
  if (form.dataset.busy !== undefined) {
    event.preventDefault();
    event.stopPropagation();
    return;
  }
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (question && !confirm(question)) {
    event.preventDefault();
    event.stopPropagation();
    return;
  }
  for (const field of form.querySelectorAll("[data-draft]")) localStorage.removeItem(DRAFT + field.dataset.draft);
  busy(form, event.submitter);
}

function restoreDrafts() {
  for (const field of document.querySelectorAll("[data-draft]")) {
    const kept = localStorage.getItem(DRAFT + field.dataset.draft);
    if (kept && !field.value) field.value = kept;
    // What a refusal gave back, or the server suggests, is a draft like any other: a reload keeps it.
    else if (field.value) localStorage.setItem(DRAFT + field.dataset.draft, field.value);
  }
}

function typed(event) {
  const key = event.target.dataset?.draft;
  if (key) localStorage.setItem(DRAFT + key, event.target.value);
}

function fillFrom(event) {
  const button = event.target.closest?.("[data-fill]");
  if (!button) return;
  const field = document.getElementById(button.dataset.fill);
  const source = document.getElementById(button.dataset.fillFrom);
  if (!field || !source) return;
  field.value = source.content.textContent.trim();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
}

function keyed(event) {
  if (event.key !== "Enter" || !(event.metaKey || event.ctrlKey)) return;
  const form = event.target.closest?.("form[data-quick]");
  if (form) form.requestSubmit();
}

export function startForms() {
  restoreDrafts();
  document.addEventListener("submit", submitted, true);
  document.addEventListener("input", typed);
  document.addEventListener("click", fillFrom);
  document.addEventListener("keydown", keyed);
  document.addEventListener("htmx:finally:request", (event) => {
    const form = event.target.closest?.("form");
    if (form) free(form);
  });
  // Back from the next page: the forms of this one are usable again.
  addEventListener("pageshow", () => document.querySelectorAll("form[data-busy]").forEach(free));
}
