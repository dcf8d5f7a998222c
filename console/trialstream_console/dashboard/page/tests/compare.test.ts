import assert from "node:assert/strict";
import { test } from "node:test";
import { firstMetric, metricName, queryOf } from "../compare/compared";
import { differing } from "../compare/differences";
import { brushesOf } from "../compare/parallel";
import { blend, scaleOf } from "../compare/scale";
import type { TrialTable } from "../shapes";

test("the subject of a comparison is one query, whose parts cannot leave their place", () => {
  const subject = { trials: ['a"b'], where: "x = 1 or y = 2", project: "p", group: "" };
  assert.equal(queryOf(subject), 'uid in ("a\\"b") and project_id = "p" and (x = 1 or y = 2)');
  assert.equal(queryOf({ trials: [], where: "", project: "", group: "" }), "");
});

test("a scale is linear, logarithmic for wide ranges, or of categories", () => {
  const linear = scaleOf([0, 5, 10, null, { $float: "NaN" }]);
  assert.equal(linear.kind, "linear");
  assert.deepEqual([0, 5, 10].map(linear.place), [0, 0.5, 1]);
  assert.equal(linear.place({ $float: "NaN" }), null);
  const log = scaleOf([1e-5, 1e-1]);
  assert.equal(log.kind, "log");
  assert.ok(Math.abs(log.place(1e-3)! - 0.5) < 1e-12);
  assert.equal(scaleOf([0, 1e6]).kind, "linear");
  const texts = scaleOf(["sgd", "adam", 3]);
  assert.deepEqual(texts.ticks.map((each) => each.label), ["3", "adam", "sgd"]);
  assert.equal(texts.place("adam"), 0.5);
  assert.equal(scaleOf([null]).kind, "empty");
  assert.equal(scaleOf([7, 7]).place(7), 0.5);
  assert.equal(scaleOf([{ $float: "NaN" }]).kind, "category");
});

test("the scale of any range of numbers has at least two ticks within it", () => {
  assert.deepEqual(scaleOf([0, 10]).ticks.map((each) => each.label), ["0", "2", "4", "6", "8", "10"]);
  for (const [low, high] of [[-3e-9, 4e-9], [1e15, 1e15 + 4], [1e16, 1e16 + 2], [-1e308, 1e308], [0.1, 0.30000000000000004]] as const) {
    const { ticks } = scaleOf([low, high], false);
    assert.ok(ticks.length >= 2 && ticks.length <= 12, `${low} to ${high}: ${ticks.length}`);
    assert.ok(ticks.every((each) => each.at >= -1e-9 && each.at <= 1 + 1e-9), `${low} to ${high}`);
  }
});

test("brushes are read from the address; what is none is left out", () => {
  assert.deepEqual(brushesOf(["parameters.a:b:0.25:0.5", "x:0.5:0.5", "y"]), [{ path: "parameters.a:b", low: 0.25, high: 0.5 }]);
});

test("differences are of value or of type", () => {
  const data = { columns: ["a", "b", "c"], values: [[1, 1], [1, "1"], [null, 2]] } as unknown as TrialTable;
  assert.deepEqual(differing(data), [1, 2]);
});

test("values that were too large to be read are never taken for equal", () => {
  const long = { $long: "string", start: "same", size: 500_000 };
  assert.deepEqual(differing({ columns: ["a"], values: [[long, { ...long }]] } as unknown as TrialTable), [0]);
});

test("a comparison begins with a loss, and names come from paths", () => {
  assert.equal(firstMetric(["acc", "train/loss", "val/loss"]), "val/loss");
  assert.equal(firstMetric(["system/cpu", "reward"]), "reward");
  assert.equal(firstMetric(["system/cpu"]), "system/cpu");
  assert.equal(firstMetric([]), undefined);
  assert.equal(metricName("metrics.a\\.b.last"), "a.b");
  assert.equal(blend("#000000", "#ffffff", 0.5), "rgb(128 128 128)");
});
