import assert from "node:assert/strict";
import { test } from "node:test";
import { Growing, keyOf } from "../charts/growing";
import { NO_POINTS } from "../charts/points";
import type { Answer } from "../charts/series";

const f = (...values: number[]) => Float64Array.from(values);

function answer(x: number[], y: number[], seen: number, exact = true): Answer {
  const points = { ...NO_POINTS, x: f(...x), y: f(...y), total: x.length, exact };
  return { curves: [{ trial: "t", name: "loss", group: undefined, points, textSteps: false }], rowsSeen: { t: seen }, reset: [] };
}

function rows(from: number, steps: (number | null)[], values: number[], more = false) {
  const times = steps.map((_, i) => 1e6 * (from + i + 1));
  return { trial: "t", from, rows_seen: from + steps.length, names: { loss: { steps, times, values } }, more };
}

function shown(growing: Growing): [number[], number[]] {
  const { x, y } = growing.points(growing.curves.get(keyOf({ trial: "t", name: "loss" }))!, null);
  return [[...x], [...y]];
}

test("rows that follow are appended, those that are known are not, and a gap asks for what is missing", () => {
  const growing = new Growing();
  assert.equal(growing.takeRows(rows(0, [0], [1]), "step", 0), "known");
  growing.takeWhole(answer([0, 1], [5, 6], 2));
  assert.equal(growing.takeRows(rows(0, [0, 1], [5, 6]), "step", 0), "known");
  assert.equal(growing.takeRows(rows(2, [2, 3], [7, 8]), "step", 0), "grown");
  assert.equal(growing.takeRows(rows(5, [6], [9]), "step", 0), "behind");
  assert.equal(growing.takeRows(rows(3, [3, 4], [8, 9]), "step", 0), "behind");
  assert.equal(growing.takeRows(rows(4, [4], [9], true), "step", 0), "behind");
  assert.deepEqual(shown(growing), [[0, 1, 2, 3], [5, 6, 7, 8]]);
  growing.takeLater(answer([4, 5], [9, 10], 6));
  assert.deepEqual(shown(growing), [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10]]);
  assert.equal(growing.rowsSeen.t, 6);
  const many = answer([6, 7], [11, 12], 1006);
  growing.takeLater({ ...many, curves: many.curves.map((each) => ({ ...each, points: { ...each.points, total: 1000, exact: false } })) });
  const { whole } = [...growing.curves.values()][0]!;
  assert.deepEqual([whole.total, whole.exact, whole.x.length], [1006, false, 8]);
  growing.takeLater({ ...answer([0], [1], 7), reset: ["t"] });
  assert.deepEqual(shown(growing), [[0], [1]]);
});

test("x of new rows is the step, the time, or the seconds since the start; a missing step is numbered", () => {
  for (const [x, expected] of [["step", [0, 1, 2]], ["time", [0, 2e6, 3e6]], ["relative", [0, 1, 2]]] as const) {
    const growing = new Growing();
    growing.takeWhole(answer([0], [0], 1));
    growing.takeRows(rows(1, [null, null], [1, 2]), x, 1e6);
    assert.deepEqual(shown(growing)[0], expected);
  }
});

test("a zoom that is loaded exactly shows its rows, and new rows within it", () => {
  const growing = new Growing();
  growing.takeWhole(answer([0, 50, 100], [0, 0, 0], 100, false));
  assert.equal(growing.isExact([40, 60]), false);
  growing.takeFine(answer([49, 50, 51], [1, 2, 3], 100), [40, 110]);
  assert.equal(growing.isExact([45, 60]), true);
  assert.equal(growing.isExact([30, 60]), false);
  assert.deepEqual(shown(growing)[0], [0, 49, 50, 51]);
  growing.takeRows(rows(100, [101, 120], [4, 5]), "step", 0);
  assert.deepEqual(shown(growing)[0], [0, 49, 50, 51, 101, 120]);
});

test("steps that go back ask for all: a later attempt has resumed", () => {
  const growing = new Growing();
  growing.takeWhole(answer([0, 1, 2], [0, 0, 0], 3));
  assert.equal(growing.takeRows(rows(3, [1], [9]), "step", 0), "superseded");
  assert.equal(growing.takeRows(rows(3, [3, 2], [9, 9]), "step", 0), "superseded");
  assert.equal(growing.takeRows(rows(3, [1], [9]), "time", 0), "grown");
});

test("of many new rows come those that a plot needs, with the counts of all", () => {
  const growing = new Growing();
  growing.takeWhole(answer([0, 1], [5, 6], 2));
  growing.takeFine(answer([0, 1], [5, 6], 2), [0, 500]);
  const event = rows(2, [2, 400, 600], [7, NaN, 8]);
  const counts = { total: 1000, nan: 12, inf: 3, neginf: 0 };
  const some = { ...event, rows_seen: 1002, names: { loss: { ...event.names.loss, counts } } };
  assert.equal(growing.takeRows(some, "step", 0), "grown");
  const { whole, fine } = [...growing.curves.values()][0]!;
  assert.deepEqual([[...whole.x], [...whole.y], [...whole.marks.x]], [[0, 1, 2, 600], [5, 6, 7, 8], [400]]);
  assert.deepEqual([whole.total, whole.exact, whole.counts], [1002, false, { nan: 12, inf: 3, neginf: 0 }]);
  assert.deepEqual([[...fine!.points.x], fine!.points.exact], [[0, 1, 2], false]);
  assert.equal(growing.takeRows(rows(1002, [1001], [9]), "step", 0), "grown");
});
