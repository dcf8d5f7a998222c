import assert from "node:assert/strict";
import { test } from "node:test";
import { bandOf } from "../charts/bands";
import { appended, MOST_POINTS, nearest, NO_POINTS, spliced, thinned } from "../charts/points";
import type { Line, Points } from "../charts/types";
import { look, Looks } from "../charts/palette";

const f = (...values: number[]) => Float64Array.from(values);
const points = (x: number[], y: number[], exact = true): Points => ({ ...NO_POINTS, x: f(...x), y: f(...y), total: x.length, exact });
const line = (key: string, x: number[], y: number[]): Line => ({ ...points(x, y), key, label: key, colour: 0, textSteps: false });

test("the nearest point is found on sorted and unsorted x", () => {
  assert.equal(nearest(f(), 1, true), -1);
  assert.equal(nearest(f(0, 10, 20), 14, true), 1);
  assert.equal(nearest(f(0, 10, 20), 99, true), 2);
  assert.equal(nearest(f(20, 0, 10), 1, false), 1);
});

test("finer points replace those of their range", () => {
  const joined = spliced(points([0, 5, 10, 15, 20], [0, 1, 2, 3, 4], false), points([9, 10, 11], [7, 8, 9]), [8, 12]);
  assert.deepEqual([...joined.x], [0, 5, 9, 10, 11, 15, 20]);
  assert.deepEqual([...joined.y], [0, 1, 7, 8, 9, 3, 4]);
  assert.equal(joined.exact, false);
});

test("new rows are appended; NaN and infinities are counted and marked", () => {
  const grown = appended(points([0, 1], [5, 6]), [2, 3, 4, 5], [7, NaN, Infinity, -Infinity]);
  assert.deepEqual([...grown.x], [0, 1, 2]);
  assert.deepEqual(grown.counts, { nan: 1, inf: 1, neginf: 1 });
  assert.deepEqual([[...grown.marks.x], [...grown.marks.kind]], [[3, 4, 5], [0, 1, 2]]);
  assert.equal(grown.total, 6);
});

test("a line that grows for long stays bounded and keeps its spike", () => {
  let growing: Points = NO_POINTS;
  for (let i = 0; i < 200; i++) {
    const x = Array.from({ length: 1000 }, (_, j) => i * 1000 + j);
    growing = appended(growing, x, x.map((each) => (each === 33_333 ? 99 : 0)));
    assert.ok(growing.x.length <= 2 * MOST_POINTS);
  }
  assert.equal(growing.total, 200_000);
  assert.equal(growing.exact, false);
  assert.equal(growing.y[growing.x.indexOf(33_333)], 99);
});

test("thinning keeps first, least, greatest and last of each column", () => {
  const x = Array.from({ length: 1000 }, (_, i) => i);
  const thin = thinned(points(x, x.map((each) => (each === 501 ? -9 : each === 502 ? 9 : 0))), 10);
  assert.ok(thin.x.length <= 40);
  assert.ok(thin.x.includes(501) && thin.x.includes(502) && thin.x.includes(0) && thin.x.includes(999));
});

test("a band holds least, mean and greatest, and every spike", () => {
  const band = bandOf([line("a", [0, 10], [0, 10]), line("b", [0, 5, 10], [10, 50, 0])], "k", "ranks", 0, 11);
  assert.deepEqual([...band.x], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(band.high[5], 50);
  assert.equal(band.low[0], 0);
  assert.equal(band.mid[10], 5);
});

test("a band counts the values of its lines that are not finite, and marks each place of them once", () => {
  const marks = { x: Float64Array.of(1, 2), kind: Float64Array.of(0, 1) };
  const special = { ...line("a", [], []), marks, counts: { nan: 1, inf: 1, neginf: 0 } };
  const band = bandOf([special, special], "k", "ranks", 0, 3);
  assert.deepEqual([band.counts, band.marks], [{ nan: 2, inf: 2, neginf: 0 }, marks]);
});

test("a line that goes back is taken in order", () => {
  assert.deepEqual([...bandOf([line("a", [0, 10, 5], [0, 10, 5])], "k", "ranks", 0, 3).mid], [0, 5, 10]);
});

test("a band of nothing is empty, and one of a single point has one place", () => {
  assert.equal(bandOf([], "k", "ranks", 0, 100).x.length, 0);
  assert.deepEqual([...bandOf([line("a", [3], [4])], "k", "ranks", 0, 100).mid], [4]);
});

test("a curve keeps its look, and 48 curves look different", () => {
  const looks = new Looks();
  assert.deepEqual([looks.of("a"), looks.of("b"), looks.of("a")], [0, 1, 0]);
  assert.equal(new Set(Array.from({ length: 48 }, (_, i) => JSON.stringify(look(i)))).size, 48);
});
