import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, ema } from "../charts/ema";

const f = (...values: number[]) => Float64Array.from(values);

/** Random numbers between 0 and 1 that are the same in each run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test("a time constant of 0 changes nothing", () => {
  const y = f(1, 2, 3);
  assert.equal(ema(f(0, 1, 2), y, 0), y);
});

test("a constant stays, whatever its spacing", () => {
  assert.deepEqual([...ema(f(0, 1, 1.5, 100), f(7, 7, 7, 7), 3)].map((each) => Number(each.toFixed(12))), [7, 7, 7, 7]);
});

test("points added on the line change nothing: the average depends on x, not on the number of points", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const next = random(seed);
    const x = [0];
    const y = [next()];
    for (let i = 1; i < 30; i++) {
      x.push(x[i - 1]! + 0.01 + 5 * next());
      y.push(10 * next());
    }
    const dense: [number, number][] = [];
    for (let i = 0; i < x.length; i++) {
      dense.push([x[i]!, y[i]!]);
      for (const share of i + 1 < x.length ? [0.25, 0.5, 0.9] : []) {
        dense.push([x[i]! + share * (x[i + 1]! - x[i]!), y[i]! + share * (y[i + 1]! - y[i]!)]);
      }
    }
    const tau = 0.1 + 20 * next();
    const sparse = ema(f(...x), f(...y), tau);
    const smooth = ema(f(...dense.map(([each]) => each)), f(...dense.map(([, each]) => each)), tau);
    x.forEach((_, i) => assert.ok(Math.abs(sparse[i]! - smooth[4 * i]!) < 1e-9, `seed ${seed}, point ${i}`));
  }
});

test("the beginning of a line is the same however far the line goes on", () => {
  const x = Float64Array.from({ length: 100 }, (_, i) => i);
  const y = x.map((each) => Math.sin(each));
  assert.deepEqual([...ema(x, y, 5)].slice(0, 10), [...ema(x.slice(0, 10), y.slice(0, 10), 5)]);
});

test("a jump is followed to 1 - 1/e within the time constant", () => {
  const smooth = ema(f(0, 1e-12, 10), f(0, 1, 1), 10);
  assert.ok(Math.abs(smooth[2]! - (1 - Math.exp(-1))) < 1e-9);
});

test("NaN and infinities are left out, and a line that goes back begins anew", () => {
  const smooth = ema(f(0, 1, 2, 3, 1), f(4, NaN, Infinity, 4, 9), 2);
  assert.deepEqual([...smooth], [4, NaN, NaN, 4, 9]);
});

test("the choices of the slider are round and grow to a quarter of the line", () => {
  assert.deepEqual(constants(0), [0]);
  const choices = constants(1000);
  assert.equal(choices[0], 0);
  assert.deepEqual(choices.slice(-4), [20, 50, 100, 200]);
  assert.ok(choices.every((each, i) => i === 0 || each > choices[i - 1]!));
});
