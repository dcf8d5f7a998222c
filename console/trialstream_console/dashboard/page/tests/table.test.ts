import assert from "node:assert/strict";
import { test } from "node:test";
import { columnsIn, groupsOf, Lines, windowOf } from "../table/layout";
import { chosen, defaults, escaped, heading, ordered, parts, sorted, widthsOf, withWidth } from "../table/paths";
import { firstRequest, windowAddress } from "../table/question";
import type { ColumnInfo } from "../shapes";
import { ranged, toggled } from "../table/selecting";
import { joined } from "../table/toolbar";
import type { TrialTable } from "../shapes";

test("a path has the parts that it was made of", () => {
  for (const each of [["parameters", "lr"], ["metrics", "a.b\\c", "last"], ["tags", ""]]) {
    assert.deepEqual(parts(each.map(escaped).join(".")), each);
  }
});

test("the default columns leave out the metrics that the tracker captures by itself", () => {
  const of = (path: string): ColumnInfo => ({ path, kind: "metric", type: "number", count: 1, operators: [] });
  const columns = ["metrics.system/cpu.last", "metrics.event_loop/lag.last", "metrics.systematic.last", "metrics.loss.last", "metrics.loss.min"].map(of);
  assert.deepEqual(defaults(columns), ["created", "metrics.systematic.last", "metrics.loss.last"]);
});

test("a heading shows the name, and above it what it is a value of", () => {
  assert.deepEqual(heading("metrics.train/loss.last"), { over: "last", label: "train/loss" });
  assert.deepEqual(heading("parameters.model.dropout"), { over: "parameter", label: "model.dropout" });
  assert.deepEqual(heading("created"), { over: "", label: "Created" });
});

test("columns to choose: fields with a name, logged values, and the fields that hold these", () => {
  const column = (kind: ColumnInfo["kind"], path: string): ColumnInfo => ({ path, kind, type: "mixed", count: 1, operators: [] });
  const found = [column("field", "parameters"), column("metric", "metrics.loss.last"), column("field", "created"), column("parameter", "parameters.lr")];
  assert.deepEqual(ordered(found).map((each) => each.path), ["created", "parameters.lr", "metrics.loss.last", "parameters"]);
});

test("a heading sorts up, down, and not at all", () => {
  assert.deepEqual(sorted([], "a", false), ["a"]);
  assert.deepEqual(sorted(["a"], "a", false), ["-a"]);
  assert.deepEqual(sorted(["-a"], "a", false), []);
  assert.deepEqual(sorted(["b"], "a", false), ["a"]);
  assert.deepEqual(sorted(["b"], "a", true), ["b", "a"]);
  assert.deepEqual(sorted(["b", "-a"], "a", true), ["b"]);
});

test("widths are kept within bounds, and written as they are read", () => {
  const widths = widthsOf(["a:b:120", "c:1", "broken", ":5"]);
  assert.deepEqual([...widths], [["a:b", 120], ["c", 48]]);
  assert.deepEqual(withWidth(widths, "c", 5000), ["a:b:120", "c:900"]);
  assert.deepEqual(chosen(["a", "name", "a", ""]), ["a"]);
});

test("the lines of a table are its groups and the trials of the open ones, each once", () => {
  const values = ["x", "x", "y", 1, 1, "1"];
  const groups = groupsOf(values);
  assert.deepEqual(groups.map((each) => [each.value, each.start, each.count]), [["x", 0, 2], ["y", 2, 1], [1, 3, 2], ["1", 5, 1]]);
  for (let mask = 0; mask < 16; mask++) {
    const closed = new Set(groups.filter((_, index) => mask & (1 << index)).map((each) => each.key));
    const lines = new Lines(8, groups, closed); // two more than the groups cover
    const all = Array.from({ length: lines.count }, (_, index) => lines.at(index));
    const rows = all.flatMap((each) => (each.kind === "trial" ? [each.row] : []));
    const open = groups.filter((each) => !closed.has(each.key)).flatMap((each) => Array.from({ length: each.count }, (_, index) => each.start + index));
    assert.deepEqual(rows, [...open, 6, 7]);
    assert.deepEqual(all.flatMap((each) => (each.kind === "group" ? [each.group] : [])), groups);
  }
  assert.deepEqual(new Lines(3, [], new Set()).at(2), { kind: "trial", row: 2 });
});

test("a window has all that is in view, and no more than there is", () => {
  assert.deepEqual(windowOf(0, 300, 30, 1000, 5), { first: 0, shown: 21 });
  assert.deepEqual(windowOf(3000, 300, 30, 1000, 5), { first: 95, shown: 21 });
  assert.deepEqual(windowOf(1e9, 300, 30, 1000, 5), { first: 994, shown: 6 });
  assert.equal(windowOf(0, 300, 30, 0, 5).shown, 0);
  assert.deepEqual(columnsIn([0, 100, 200, 300], 0, 150), { from: 0, to: 2 });
  assert.deepEqual(columnsIn([0, 100, 200, 300], 120, 500), { from: 1, to: 3 });
  assert.deepEqual(columnsIn([0], 0, 100), { from: 0, to: 0 });
});

test("a selection has what was chosen last", () => {
  const one = toggled(new Map(), "u", "name");
  assert.deepEqual([...one], [["u", "name"]]);
  assert.equal(toggled(one, "u", "name").size, 0);
  assert.equal(ranged(one, [{ uid: "u", name: "" }, { uid: "v", name: "" }], true).size, 2);
  assert.equal(ranged(one, [{ uid: "u", name: "" }], false).size, 0);
});

test("the first request of a page is that of its view", () => {
  const question = { where: "a = 1 & b", columns: ["tags.x", "parameters.lr"], sort: ["tags.x", "-created"] };
  const query = new URLSearchParams([["where", question.where], ["columns", "tags.x"], ["columns", "name"], ["columns", "parameters.lr"], ["by", "tags.x"]]);
  assert.equal(firstRequest("/trials", query), windowAddress(question, 0));
  assert.equal(firstRequest("/trials/", query), windowAddress(question, 0));
  const all = { where: "", columns: ["created"], sort: ["name"] };
  const none = new URLSearchParams("sort=name&x=1");
  assert.equal(firstRequest("/projects/a%20%26", none), windowAddress({ ...all, project: "a &" }, 0));
  assert.equal(firstRequest("/groups/g", none), windowAddress({ ...all, group: "g" }, 0));
  assert.equal(firstRequest("/trials/a%20b_0", none), "/trials/a%20b_0");
  for (const path of ["/", "/projects", "/groups/", "/compare", "/operations"]) assert.equal(firstRequest(path, none), null);
});

test("the parts of an exported table are one table", () => {
  const part = (uids: string[], values: number[][]) => ({ columns: ["a", "b"], uids, names: uids, statuses: [], values, total: 3 }) as unknown as TrialTable;
  const found = joined([part(["x", "y"], [[1, 2], [3, 4]]), part(["z"], [[5], [6]])]);
  assert.deepEqual([found.uids, found.values], [["x", "y", "z"], [[1, 2, 5], [3, 4, 6]]]);
});
