// Run: npm test
import assert from "node:assert/strict";
import test from "node:test";
import { hiddenEnds } from "../src/overflow.js";

test("says at which end there is more", () => {
  const box = { clientWidth: 300, scrollWidth: 900 };
  assert.equal(hiddenEnds({ ...box, scrollLeft: 0 }), "end");
  assert.equal(hiddenEnds({ ...box, scrollLeft: 200 }), "both");
  assert.equal(hiddenEnds({ ...box, scrollLeft: 600 }), "start");
});

test("says nothing where all is seen, also by half a pixel", () => {
  assert.equal(hiddenEnds({ scrollLeft: 0, clientWidth: 300, scrollWidth: 300 }), "");
  assert.equal(hiddenEnds({ scrollLeft: 0.5, clientWidth: 300, scrollWidth: 301 }), "");
});
