import assert from "node:assert/strict";
import { test } from "node:test";
import { choice, flag, link, list, number, text } from "../router";

test("an address has what differs from the default", () => {
  assert.equal(link("/trials", { where: "a = 1 & b", sort: "", by: null, live: true, dead: false }), "/trials?where=a+%3D+1+%26+b&live=1");
  assert.equal(link("/trials", { columns: ["a", "b"], limit: 0 }), "/trials?columns=a&columns=b&limit=0");
  assert.equal(link("/"), "/");
});

test("a parameter is read as it was written", () => {
  for (const value of [0, -1.5, 1e21]) assert.equal(number(null).read(number(null).write(value)), value);
  assert.equal(number(7).read(["x"]), 7);
  assert.deepEqual(number(7).write(7), []);
  assert.equal(choice(["a", "b"] as const, "a").read(["c"]), "a");
  assert.equal(choice(["a", "b"] as const, "a").read(["b"]), "b");
  assert.equal(flag.read(flag.write(true)), true);
  assert.equal(text("x").read([]), "x");
  assert.deepEqual(list.read(["p", "q"]), ["p", "q"]);
});
