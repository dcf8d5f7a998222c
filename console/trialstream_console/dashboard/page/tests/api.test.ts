import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, Failure } from "../api";

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
