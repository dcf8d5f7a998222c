import assert from "node:assert/strict";
import { test } from "node:test";
import { dump } from "../views/operations/dead-letters";
import { timeOf } from "../views/trial/chronos";
import { matching } from "../views/trial/curves";
import { differences } from "../views/trial/difference";
import { overwritten } from "../views/trial/output";
import { median } from "../views/trial/stragglers";
import { below, compared, treeOf } from "../views/trial/tree";
import type { MetricInfo, TrialDetail } from "../shapes";

const named = (...names: string[]) => names.map((name) => ({ name }));

test("names become folders, with counts, and numbers in their order", () => {
  const root = treeOf(named("train/loss", "layer/10/norm", "layer/9/norm", "lr", "train/a/b"));
  assert.deepEqual([root.count, root.leaves.map((each) => each.name)], [5, ["lr"]]);
  assert.deepEqual(root.folders.map((each) => [each.path, each.count]), [["layer/", 2], ["train/", 2]]);
  assert.deepEqual(below(root.folders[0]!).map((each) => each.name), ["9/norm", "10/norm"]);
});

test("names of slashes alone, or empty ones, are leaves all the same", () => {
  const root = treeOf(named("", "/", "a//b", "/x"));
  assert.equal(root.count, 4);
  assert.equal(below(root).length, 4);
});

test("different names are never equal in order", () => {
  assert.notEqual(compared("a1", "a01"), 0);
  assert.equal(compared("a", "a"), 0);
});

test("a search takes names with all of its words", () => {
  const metrics = named("train/loss", "eval/loss", "eval/accuracy") as MetricInfo[];
  assert.deepEqual(matching(metrics, "LOSS ev", "").map((each) => each.name), ["eval/loss"]);
  assert.deepEqual(matching(metrics, "", "eval/").map((each) => each.name), ["eval/loss", "eval/accuracy"]);
});

test("two trials differ where a value, or its type, differs or is missing", () => {
  const trial = (parameters: object) => ({ parameters, metadata: {}, tags: {}, status: { name: "Running" }, version: null, metrics: [] }) as unknown as TrialDetail;
  const rows = differences(trial({ a: 1, b: { c: 2, d: 3 }, e: 1 }), trial({ a: "1", b: { c: 2 }, e: 1 }));
  assert.deepEqual(rows.filter((each) => each.differs).map((each) => each.path), ["parameters.a", "parameters.b.d"]);
});

test("a line of output is as a terminal shows it", () => {
  assert.equal(overwritten(" 10%\r 50%\r100%"), "100%");
  assert.equal(overwritten("\u001b[32mok\u001b[0m\r"), "ok");
  assert.equal(overwritten(""), "");
});

test("the median leaves out what is not a number", () => {
  assert.equal(median([3, NaN, 1, 2]), 2);
  assert.equal(median([1, 2]), 1.5);
  assert.ok(Number.isNaN(median([])));
});

test("bytes are shown as digits and as characters", () => {
  assert.equal(dump("48690a"), `000000  48 69 0a${" ".repeat(39)}  Hi·`);
  assert.equal(dump("00".repeat(17)).split("\n").length, 2);
});

test("the time of a trial is that of all of its processes, and of earlier attempts without the pause between them", () => {
  const process = (joined: number | null, last_seen: number | null) => ({ joined, last_seen }) as TrialDetail["participants"][number];
  const own = { started: 1e6, finished: 901e6, last_seen: 950e6 };
  assert.deepEqual(timeOf({ ...own, participants: [] }), { seconds: 900, processes: 1 });
  assert.deepEqual(timeOf({ ...own, finished: null, participants: [] }), { seconds: 949, processes: 1 });
  const ranks = [process(1e6, 11e6), process(2e6, 12e6), process(801e6, 900e6), process(null, null)];
  assert.deepEqual(timeOf({ ...own, participants: ranks }), { seconds: 119, processes: 4 });
});
