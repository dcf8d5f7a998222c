import assert from "node:assert/strict";
import { test } from "node:test";
import { inRuns } from "../views/operations/lists";

test("partitions of a consumer are listed in runs", () => {
  assert.equal(inRuns([]), "");
  assert.equal(inRuns(["a/b.trials/10", "a/b.trials/2", "a/b.trials/3", "a/b.registry/0", "a/b.trials/1"]), "a/b.registry/0, a/b.trials/1–3, a/b.trials/10");
});
