import assert from "node:assert/strict";
import { test } from "node:test";
import { delayMs } from "../src/backoff.js";

test("doubles up to a limit", () => {
  const most = [0, 1, 2, 10, 1000].map((attempt) => delayMs(attempt, () => 1));
  assert.deepEqual(most, [500, 1000, 2000, 20_000, 20_000]);
});

test("leaves half of it to chance", () => {
  assert.equal(delayMs(3, () => 0), 2000);
});
