// The one bundle of the portal: htmx and our small modules, in an order that is known.
import "htmx.org/dist/htmx.esm.js";
import "./morph.js";
import { startBadge } from "./badge.js";
import { startCopy } from "./copy.js";
import { startFollow } from "./follow.js";
import { startForms } from "./forms.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startOverflow } from "./overflow.js";
import { startSession } from "./session.js";
import { startTabs } from "./tabs.js";
import { startTail } from "./tail.js";
import { startTheme } from "./theme.js";
import { startClock } from "./time.js";

function start() {
  startSession();
  startTheme();
  startForms();
  startCopy();
  startClock();
  startFollow();
  startBadge();
  startKeys();
  startTabs();
  startOverflow();
  startTail();
  startLive();
  document.documentElement.dataset.ready = "";
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
