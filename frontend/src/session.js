// When the session ended, a page that asks for news is sent to the login form. That form is a page of
// its own and must not be put inside this one.

export function startSession() {
  document.addEventListener("htmx:before:response", (event) => {
    const raw = event.detail.ctx?.response?.raw;
    if (!raw?.redirected) return;
    event.preventDefault();
    location.assign(raw.url.includes("/login/") ? `${new URL(raw.url).pathname}?next=${encodeURIComponent(location.pathname + location.search)}` : raw.url);
  });
}
