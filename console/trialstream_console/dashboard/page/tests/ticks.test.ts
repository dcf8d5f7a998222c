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

const LARGEST = Number.MAX_VALUE;
const RANGES: [number, number][] = [
  [0, 1], [0.58, 1], [0.61, 0.67], [0, 3.1], [-53, 55], [0, 0.00123], [0.6, 10], [2.2, 9.9], [0.0945, 0.1054], [999999.96, 1000001.04], [-1e5, 0],
  [1e-5, 1e5], [0.05, 70], [0.9, 1100], [0.9, 9.9], [1e-150, 2.5e-150], [0, 1e-310], [0, 5e-324], [5e-324, 1e-323], [1, 1 + 2.3e-16],
  [1e16, 1e16 + 2], [1e16, 1e16 + 200], [9.5e299, 1.05e300], [-1.7e308, 1.7e308], [1e-300, 1e300], [1.7e308, LARGEST], [5e-324, LARGEST],
];

test("in charts of any height, all ranges of y have at least two ticks within them, and different labels", () => {
  for (const [from, to] of RANGES) {
    for (let count = 2; count <= 12; count++) {
      for (const ticks of from > 0 ? [linearTicks(from, to, count), logTicks(from, to, count)] : [linearTicks(from, to, count)]) {
        const place = `${from} to ${to}, ${count}: ${ticks}`;
        const slack = (to / count - from / count) * 1e-6;
        assert.ok(ticks.length >= 2 && ticks.length <= 2 * count + 2, place);
        assert.ok(ticks.every((each) => each >= from - slack && each <= to + slack), place);
        const labels = tickLabels("value", ticks);
        assert.equal(new Set(labels).size, labels.length, `${place}: ${labels}`);
      }
    }
  }
});

test("axes of time and of durations have at least two ticks, and few enough for their labels", () => {
  const begin = new Date(2026, 10, 27, 13, 7, 11).getTime() * 1000;
  for (let seconds = 1e-5; seconds < 1e9; seconds *= 1.37) {
    for (const count of [2, 3, 5, 8]) {
      const times = timeTicks(begin, begin + seconds * 1e6, count);
      assert.ok(times.length >= 2 && times.length <= count + 1, `${seconds}, ${count}: ${times}`);
      const durations = durationTicks(0.3 * seconds, 1.3 * seconds, count);
      assert.ok(durations.length >= 2 && durations.length <= 2 * count, `${seconds}, ${count}: ${durations}`);
      for (const labels of [tickLabels("time", times), tickLabels("relative", durations)]) {
        assert.ok(labels.every((each, i) => each !== labels[i - 1]), String(labels)); // a time of day may come again on the next day
      }
    }
  }
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
  assert.deepEqual([0, 0.0002, -0.004, 0.25, 5.5, 90, 5400, 86400 * 3, 86400 * 2.5].map((each) => durationLabel(each)), ["0s", "200µs", "−4ms", "250ms", "5.5s", "1:30", "1h30", "3d", "2d12h"]);
});

test("durations of one axis have one unit", () => {
  assert.deepEqual(tickLabels("relative", [0.008, 0.01, 0.012]), ["8ms", "10ms", "12ms"]);
  assert.deepEqual(tickLabels("relative", [0, 0.5, 1]), ["0s", "0.5s", "1s"]);
  assert.deepEqual(tickLabels("relative", [20, 40, 60, 80]), ["0:20", "0:40", "1:00", "1:20"]);
  assert.deepEqual(tickLabels("relative", [61.2, 61.4]), ["1:01.2", "1:01.4"]);
  assert.deepEqual(tickLabels("relative", [1800, 3600]), ["0h30", "1h00"]);
  assert.deepEqual(tickLabels("relative", [3600, 3620]), ["1:00:00", "1:00:20"]);
});

test("labels are short and tell neighbours apart", () => {
  assert.deepEqual(tickLabels("step", [0, 50000, 100000]), ["0", "50k", "100k"]);
  assert.deepEqual(tickLabels("step", [1000000, 1000002]), ["1000000", "1000002"]);
  assert.deepEqual(tickLabels("value", [0.00001, 0.00002]), ["1e−5", "2e−5"]);
  assert.deepEqual(tickLabels("value", [0.1, 0.2, 0.3]), ["0.1", "0.2", "0.3"]);
  assert.deepEqual(tickLabels("step", [19999, 20000, 20001]), ["19999", "20000", "20001"]);
  assert.equal(numberLabel(2500000, 500000), "2.5M");
  assert.equal(numberLabel(-12000, 1000), "−12k");
  assert.equal(numberLabel(1e300, 1e300), "1e300");
  assert.deepEqual(tickLabels("value", [0.001, 1, 1e5, 1e12]), ["0.001", "1", "100k", "1T"]);
  assert.deepEqual(tickLabels("value", [0, 5e19, 1e20]), ["0", "5e19", "1e20"]);
});
