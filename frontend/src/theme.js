// Light, dark, or what the system says. The choice is a cookie, so that the server's first byte is right.

const CHOICES = ["auto", "light", "dark"];
const YEAR_S = 365 * 24 * 3600;

function show(theme) {
  document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
  }
}

function choose(theme) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `theme=${theme}; path=/; max-age=${YEAR_S}; samesite=lax${secure}`;
  show(theme);
}

export function startTheme() {
  const now = document.documentElement.dataset.theme;
  show(CHOICES.includes(now) ? now : "auto");
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-theme-choice]");
    if (button && CHOICES.includes(button.dataset.themeChoice)) choose(button.dataset.themeChoice);
  });
}
