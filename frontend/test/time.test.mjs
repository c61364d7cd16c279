import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAgo, formatElapsed } from "../src/time.js";

test("elapsed shows at most two units", () => {
  const shown = [0, 59.9, 60, 245, 3600, 7380, 86400, 100_000].map(formatElapsed);
  assert.deepEqual(shown, ["0s", "59s", "1m 00s", "4m 05s", "1h 00m", "2h 03m", "1d 0h", "1d 3h"]);
});

test("elapsed is never negative, whatever the clocks say", () => {
  assert.equal(formatElapsed(-5), "0s");
});

test("ago grows coarser, and then leaves the date alone", () => {
  const shown = [3, 46, 300, 7200, 90_000, 400_000, 2_000_000].map(formatAgo);
  assert.deepEqual(shown, ["just now", "1 min ago", "5 min ago", "2 h ago", "yesterday", "4 days ago", null]);
});
