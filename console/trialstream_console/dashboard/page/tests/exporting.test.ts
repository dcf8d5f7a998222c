import assert from "node:assert/strict";
import { test } from "node:test";
import { csv, fileName } from "../exporting";

test("CSV keeps commas, quotes and lines, and gives a spreadsheet no formulas", () => {
  const text = csv([{ name: "a,b", values: ["x\"y", "=1+1", null] }, { name: "n", values: [1, { $float: "NaN" }, -2] }]);
  assert.equal(text, '"a,b",n\r\n"x""y",1\r\n\'=1+1,NaN\r\n,-2\r\n');
});

test("a file name is one that every file system takes", () => {
  assert.equal(fileName("train/loss: <b>.csv"), "train-loss-b.csv");
  assert.equal(fileName("../../etc"), "etc");
  assert.equal(fileName("///"), "trialstream");
});
