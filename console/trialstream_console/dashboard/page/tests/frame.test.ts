import assert from "node:assert/strict";
import { test } from "node:test";
import { frameOf, markOutlines, outline, polyline, type Frame } from "../charts/frame";
import { absence, notes } from "../charts/notes";
import { pan, placeOf, valueAt, wholeX, wholeY, zoom } from "../charts/ranges";
import { svgOf, escaped, type Figure } from "../charts/svg";
import { NO_POINTS } from "../charts/points";
import { xTicks, yTicks } from "../charts/ticks";
import { NO_MARKS, type Line } from "../charts/types";

const f = (...values: number[]) => Float64Array.from(values);
const frame: Frame = { left: 0, top: 0, width: 100, height: 100, x: [0, 100], y: [0, 100], xLog: false, yLog: false };

test("points become pixels, y upwards", () => {
  assert.deepEqual([...polyline(frame, f(0, 50, 100), f(0, 25, 100), NO_MARKS)], [0, 100, 50, 75, 100, 0]);
});

test("a million points become at most four a half pixel, and a spike of one row stays", () => {
  const x = Float64Array.from({ length: 1_000_000 }, (_, i) => i / 10_000);
  const y = new Float64Array(1_000_000).fill(10);
  y[654_321] = 99;
  const points = polyline(frame, x, y, NO_MARKS);
  assert.ok(points.length <= 2 * 4 * 201);
  assert.ok(Math.abs(Math.min(...points.filter((_, i) => i % 2 === 1)) - 1) < 1e-9);
});

test("a line is interrupted at a mark, and where a logarithmic axis has no place", () => {
  const gaps = { x: f(25), kind: f(0) };
  assert.deepEqual([...polyline(frame, f(0, 20, 30), f(0, 0, 0), gaps)], [0, 100, 20, 100, NaN, NaN, 30, 100]);
  const log: Frame = { ...frame, y: [1, 100], yLog: true };
  assert.deepEqual([...polyline(log, f(0, 10, 20), f(1, 0, 100), NO_MARKS)], [0, 100, NaN, NaN, 20, 0]);
});

test("a band is one closed outline for each of its parts", () => {
  const points = outline(frame, f(0, 1, 2, 3), f(0, NaN, 0, 0), f(10, NaN, 10, 10));
  assert.equal([...points].filter(Number.isNaN).length, 2);
});

test("zoom keeps the place under the pointer, on both scales", () => {
  assert.deepEqual(zoom([0, 100], 0.5, 0.25), [12.5, 62.5]);
  const [from, to] = zoom([1, 10_000], 0.5, 0.5, true);
  assert.ok(Math.abs(from - 10) < 1e-9 && Math.abs(to - 1000) < 1e-9);
  assert.deepEqual(zoom([5, 5 + 1e-12], 0.1), [5, 5 + 1e-12]);
  assert.deepEqual(pan([0, 10], 0.5), [5, 15]);
  assert.ok(Math.abs(placeOf([1, 100], valueAt([1, 100], 0.3, true), true) - 0.3) < 1e-12);
});

test("the range of y leaves out what is not in view and what is not finite", () => {
  const line: Line = { ...NO_POINTS, x: f(0, 1, 2, 3), y: f(1, NaN, 3, 1000), key: "a", label: "a", colour: 0, textSteps: false };
  const [low, high] = wholeY([line], [], [0, 2])!;
  assert.ok(low < 1 && low > 0.8 && high > 3 && high < 3.2);
  assert.equal(wholeY([line], [], [10, 20]), null);
});

test("ranges at the ends of the doubles stay ranges", () => {
  const of = (...y: number[]): Line => ({ ...NO_POINTS, x: f(0, 1), y: f(...y), key: "a", label: "a", colour: 0, textSteps: false });
  const largest = Number.MAX_VALUE;
  for (const [first, second] of [[largest, largest], [-1.7e308, 1.7e308], [5e-324, 5e-324], [0, 5e-324], [-largest, -largest], [1e16, 1e16 + 2]] as const) {
    for (const log of first > 0 ? [false, true] : [false]) {
      const range = wholeY([of(first, second)], [], [0, 1], log)!;
      assert.ok(range.every(Number.isFinite) && range[0] < range[1], `${first}, ${second}, ${log}: ${range}`);
      for (const each of [first, second]) assert.ok(placeOf(range, each, log) >= 0 && placeOf(range, each, log) <= 1, `${first}, ${second}, ${log}: ${range}`);
    }
  }
});

test("a single point has about one step, or one second, on each side", () => {
  const line: Line = { ...NO_POINTS, x: f(1234), y: f(0.7), key: "a", label: "a", colour: 0, textSteps: false };
  assert.deepEqual(wholeX([line], [], "step"), [1232.75, 1235.25]);
  assert.deepEqual(wholeX([line], [], "time"), [1234 - 1.25e6, 1234 + 1.25e6]);
  assert.deepEqual(wholeX([line], [], "value"), [1234 * 0.95, 1234 * 1.05]);
  assert.deepEqual(wholeX([line], [], "step", true), [617, 2468]);
});

test("an SVG file has the curves, and hostile names as text", () => {
  const line: Line = { ...NO_POINTS, x: f(0, 1), y: f(0, 1), key: "a", label: "<script>alert(1)</script>\u0000", colour: 9, textSteps: false };
  const figure: Figure = { title: "a & b", xLabel: "step", xKind: "step", lines: [line], bands: [], x: [0, 1], y: [0, 1], xLog: false, yLog: false, tau: 0 };
  const ink = { paper: "#fff", ink: "#000", muted: "#555", grid: "#ddd", bad: "#d55e00", curves: Array<string>(8).fill("#0072b2") };
  const text = svgOf(figure, ink);
  assert.ok(!text.includes("<script"));
  assert.ok(!text.includes("\u0000"));
  assert.ok(text.includes("a &#38; b") && text.includes("stroke-dasharray"));
  assert.equal(escaped(`"<'>&`), "&#34;&#60;&#39;&#62;&#38;");
});

const nan: Line = { ...NO_POINTS, total: 3, counts: { nan: 2, inf: 1, neginf: 0 }, marks: { x: f(0, 1, 2), kind: f(0, 0, 1) }, key: "a", label: "a", colour: 0, textSteps: false };

test("an axis on which nothing has a place has no numbers, and the marks keep their places on the other", () => {
  assert.deepEqual(wholeX([nan], [], "step"), [0, 2]);
  assert.equal(wholeY([nan], [], [0, 2]), null);
  for (const log of [false, true]) assert.deepEqual([xTicks("step", null, 5, log), yTicks(null, 5, log)], [[], []]);
  const marks = markOutlines(frameOf(0, 0, 100, 100, { x: [0, 2], y: null, xLog: false, yLog: false }), nan.marks, 1);
  assert.deepEqual([...marks], [-1, 90, 1, 90, 1, 100, -1, 100, NaN, NaN, 49, 90, 51, 90, 51, 100, 49, 100, NaN, NaN, 100, 0, 95, 8, 105, 8]);
  const ink = { paper: "#fff", ink: "#000", muted: "#555", grid: "#ddd", bad: "#d55e00", curves: Array<string>(8).fill("#0072b2") };
  const text = svgOf({ title: "a", xLabel: "step", xKind: "step", lines: [nan], bands: [], x: [0, 2], y: null, xLog: false, yLog: false, tau: 0 }, ink);
  assert.ok(!text.includes('text-anchor="end"'), "an SVG file has no numbers of y, either");
  assert.ok(text.includes('fill="#d55e00"'));
});

test("a chart without a curve says why", () => {
  const line: Line = { ...nan, x: f(0, 9), y: f(-1, 0) };
  assert.equal(absence([], null, true, false), null);
  assert.equal(absence([nan], [0, 2], true, false), "No finite value · 2 NaN · 1 +inf");
  assert.equal(absence([nan], [0.5, 1.5], false, false), "No finite value in view");
  assert.equal(absence([nan], [0.2, 0.8], false, false), "No rows in view");
  assert.equal(absence([nan, line], [0, 9], true, true), "No value above 0, as log y needs");
  assert.equal(absence([line], null, true, false), "No x above 0, as log x needs");
  assert.equal(notes([nan], [], "step", false), "3 rows · 2 NaN · 1 +inf");
});

test("a line between two points outside of the view has their range, but not where it is interrupted", () => {
  const line: Line = { ...nan, x: f(0, 10), y: f(5, 7), marks: NO_MARKS };
  const [low, high] = wholeY([line], [], [4, 6])!;
  assert.ok(low < 5 && high > 7);
  assert.equal(wholeY([{ ...line, marks: { x: f(5), kind: f(0) } }], [], [4, 6]), null);
});
