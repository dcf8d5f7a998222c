import assert from "node:assert/strict";
import { test } from "node:test";
import { durationLabel, durationTicks, linearTicks, logTicks, numberLabel, tickLabels, timeTicks } from "../charts/ticks";

test("linear ticks are round, within the range, and no more than asked for", () => {
  assert.deepEqual(linearTicks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(linearTicks(-3, 7, 5), [-2, 0, 2, 4, 6]);
  assert.deepEqual(linearTicks(1e6, 1e6 + 10, 5), [1000000, 1000002, 1000004, 1000006, 1000008, 1000010]);
  assert.deepEqual(linearTicks(0.1, 0.3, 2), [0.1, 0.2, 0.3]);
  assert.deepEqual(linearTicks(5, 5, 4), [5]);
  assert.deepEqual(linearTicks(NaN, 5, 4), []);
});

test("logarithmic ticks are powers of ten, thinned over many decades and filled over few", () => {
  assert.deepEqual(logTicks(0.001, 1000, 8), [0.001, 0.01, 0.1, 1, 10, 100, 1000]);
  assert.deepEqual(logTicks(1e-20, 1e20, 5), [1e-18, 1e-9, 1, 1e9, 1e18]);
  assert.deepEqual(logTicks(1, 10, 8), [1, 2, 5, 10]);
  assert.deepEqual(logTicks(2, 3, 5), [2, 2.2, 2.4, 2.6, 2.8, 3]);
  assert.deepEqual(logTicks(0, 10, 5), []);
  assert.deepEqual(logTicks(-1, 10, 5), []);
});

test("time ticks are at round local times", () => {
  const from = new Date(2026, 10, 27, 13, 7).getTime() * 1000;
  const to = new Date(2026, 10, 27, 16, 40).getTime() * 1000;
  const ticks = timeTicks(from, to, 5);
  assert.deepEqual(ticks.map((each) => new Date(each / 1000).getHours()), [14, 15, 16]);
  assert.deepEqual(tickLabels("time", ticks), ["11-27 14:00", "15:00", "16:00"]);
});

test("time ticks over years are at the starts of months", () => {
  const ticks = timeTicks(new Date(2020, 4, 9).getTime() * 1000, new Date(2026, 1, 2).getTime() * 1000, 6);
  assert.ok(ticks.length >= 3 && ticks.length <= 8);
  assert.ok(ticks.every((each) => new Date(each / 1000).getDate() === 1));
});

test("time ticks of milliseconds have their fractions", () => {
  const from = new Date(2026, 10, 27, 13, 7).getTime() * 1000;
  assert.deepEqual(tickLabels("time", [from, from + 500_000]), ["11-27 13:07:00", "13:07:00.5"]);
});

test("durations have the steps of a clock", () => {
  assert.deepEqual(durationTicks(0, 3600, 6), [0, 600, 1200, 1800, 2400, 3000, 3600]);
  assert.deepEqual([0, 0.0002, -0.004, 0.25, 5.5, 90, 5400, 86400 * 3, 86400 * 2.5].map(durationLabel), ["0s", "200µs", "-4ms", "0.25s", "5.5s", "1:30", "1h30", "3d", "2d12h"]);
});

test("labels are short and tell neighbours apart", () => {
  assert.deepEqual(tickLabels("step", [0, 50000, 100000]), ["0", "50k", "100k"]);
  assert.deepEqual(tickLabels("step", [1000000, 1000002]), ["1000000", "1000002"]);
  assert.deepEqual(tickLabels("value", [0.00001, 0.00002]), ["1e-5", "2e-5"]);
  assert.deepEqual(tickLabels("value", [0.1, 0.2, 0.3]), ["0.1", "0.2", "0.3"]);
  assert.equal(numberLabel(2500000, 500000), "2.5M");
  assert.equal(numberLabel(-12000, 1000), "-12k");
  assert.equal(numberLabel(1e300, 1e300), "1e300");
});
