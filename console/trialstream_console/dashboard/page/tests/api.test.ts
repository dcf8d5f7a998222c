import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, failure, Failure } from "../api";

function answer(header: unknown, doubles: number[]): ArrayBuffer {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = Math.ceil((4 + json.length) / 8) * 8;
  const buffer = new ArrayBuffer(start + doubles.length * 8);
  new DataView(buffer).setUint32(0, json.length, true);
  new Uint8Array(buffer, 4).set(json);
  new Float64Array(buffer, start).set(doubles);
  return buffer;
}

test("a binary answer has its header and its doubles, whatever the length of the header", () => {
  for (let length = 0; length < 9; length++) {
    const { header, doubles } = decode<{ name: string }>(answer({ name: "ü".repeat(length) }, [1.5, NaN, -Infinity]));
    assert.equal(header.name, "ü".repeat(length));
    assert.deepEqual([...doubles], [1.5, NaN, -Infinity]);
  }
  assert.equal(decode(answer({}, [])).doubles.length, 0);
});

test("a binary answer that is cut is an error", () => {
  assert.throws(() => decode(new ArrayBuffer(2)), Failure);
  assert.throws(() => decode(answer({ name: "abc" }, []).slice(0, 8)), Failure);
});

test("an answer with an error has its code, and one of a proxy that of its status", async () => {
  const body = JSON.stringify({ error: { code: "too_many", message: "wait", place: "x" } });
  const own = await failure(new Response(body, { status: 503 }));
  assert.deepEqual([own.code, own.message, own.place], ["too_many", "wait", "x"]);
  for (const [status, code] of [[401, "unauthorized"], [413, "too_large"], [429, "too_many"], [503, "away"], [500, "internal"]] as const) {
    assert.equal((await failure(new Response("<html>", { status }))).code, code);
  }
});
