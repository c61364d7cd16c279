// A log that follows its end, until the reader scrolls: then it stays where the eye is and counts.

const NEAR_END_PX = 48;

function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
}

class Follower {
  constructor(box) {
    this.box = box;
    this.list = box.querySelector("[data-follow-list]") ?? box;
    this.jump = document.querySelector(`[data-follow-jump="${box.id}"]`);
    this.following = true;
    this.unread = 0;
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.jump?.addEventListener("click", () => this.toEnd());
    new MutationObserver((changes) => this.grew(changes)).observe(this.list, { childList: true });
    this.toEnd();
  }

  scrolled() {
    this.following = isAtEnd(this.box);
    if (this.following) this.unread = 0;
    this.show();
  }

  grew(changes) {
    const added = changes.flatMap((c) => [...c.addedNodes]).filter((n) => n.matches?.("[data-entry]")).length;
    if (this.following) this.box.scrollTop = this.box.scrollHeight;
    else this.unread += added;
    this.show();
  }

  toEnd() {
    this.following = true;
    this.unread = 0;
    this.box.scrollTop = this.box.scrollHeight;
    this.show();
  }

  show() {
    if (!this.jump) return;
    this.jump.hidden = this.following;
    const count = this.jump.querySelector("[data-follow-count]");
    if (count) count.textContent = this.unread ? `${this.unread} new` : "Latest";
  }
}

const known = new WeakMap();

function attach() {
  for (const box of document.querySelectorAll("[data-follow]")) {
    if (!known.has(box)) known.set(box, new Follower(box));
  }
}

export function startFollow() {
  attach();
  document.addEventListener("htmx:after:swap", attach);
}
