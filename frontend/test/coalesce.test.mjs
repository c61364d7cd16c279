import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCoalescer } from "../src/live.js";

/** A clock that the test turns. */
function makeClock(hidden = false) {
  let time = 0;
  let timers = [];
  const told = [];
  const changed = makeCoalescer((types) => told.push([time, types]), {
    now: () => time,
    later: (fire, ms) => {
      const timer = { fire, at: time + ms };
      timers.push(timer);
      return timer;
    },
    cancel: (timer) => (timers = timers.filter((other) => other !== timer)),
    isHidden: () => hidden,
  });
  return {
    changed,
    told,
    advance(ms) {
      const end = time + ms;
      for (;;) {
        const next = timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        timers = timers.filter((t) => t !== next);
        time = next.at;
        next.fire();
      }
      time = end;
    },
  };
}

test("a burst is told once, with each type once", () => {
  const clock = makeClock();
  for (const type of ["task:status", "task:status", "project:status"]) clock.changed(type);
  clock.advance(1000);
  assert.deepEqual(clock.told, [[250, ["task:status", "project:status"]]]);
});

test("a steady stream is told in steps, not put off for ever", () => {
  const clock = makeClock();
  for (let i = 0; i < 40; i += 1) {
    clock.changed("task:status");
    clock.advance(100);
  }
  assert.equal(clock.told.length, 2);
  assert.equal(clock.told[0][0], 1500);
});

test("a hidden tab is told rarely", () => {
  const clock = makeClock(true);
  for (let i = 0; i < 50; i += 1) {
    clock.changed("task:status");
    clock.advance(100);
  }
  assert.equal(clock.told.length, 0);
  clock.advance(6000);
  assert.equal(clock.told.length, 1);
});
