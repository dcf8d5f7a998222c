import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, brief, bytes, count, counted, cut, cutMiddle, duration, full, numeric, short, unwrapped, utc, when } from "../format";

test("numbers are short, and never a wrong size", () => {
  const cases: [number, string][] = [
    [0, "0"], [1, "1"], [-3, "−3"], [0.1, "0.1"], [0.023456, "0.02346"], [1234.5678, "1235"], [99999, "99999"],
    [12345.678, "12346"], [100000, "100000"], [1e6, "1 M"], [1234567, "1.235 M"], [-2.5e9, "−2.5 G"], [3e12, "3 T"],
    [1.5e-7, "1.5e−7"], [2e20, "2e20"], [NaN, "NaN"], [Infinity, "∞"], [-Infinity, "−∞"], [999_999, "1 M"],
  ];
  for (const [value, expected] of cases) assert.equal(short(value), expected);
});

test("whole numbers have their thousands apart", () => {
  assert.equal(count(1234567).replaceAll("\u202f", " "), "1 234 567");
  assert.equal(count(12), "12");
});

test("a number has its noun in the singular or the plural", () => {
  assert.deepEqual([0, 1, 2].map((each) => counted(each, "trial")), ["0 trials", "1 trial", "2 trials"]);
  assert.deepEqual([1, 2].map((each) => counted(each, "process", "processes")), ["1 process", "2 processes"]);
});

test("sizes and lengths of time have a unit that fits", () => {
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(1023), "1023 B");
  assert.equal(bytes(1536), "1.5 KiB");
  assert.equal(bytes(5 * 1024 ** 3), "5 GiB");
  assert.equal(duration(0.0000042), "4.2 µs");
  assert.equal(duration(0.25), "250 ms");
  assert.equal(duration(4.2), "4.2 s");
  assert.equal(duration(59.97), "1 min");
  assert.equal(duration(185), "3 min 5 s");
  assert.equal(duration(3599.7), "1 h");
  assert.equal(duration(7800), "2 h 10 min");
  assert.equal(duration(3 * 86400 + 4 * 3600), "3 d 4 h");
  assert.equal(duration(-5), "−5 s");
});

test("names with a long common beginning are told apart by their ends", () => {
  assert.equal(cutMiddle("dev.trials", 32), "dev.trials");
  assert.equal(cutMiddle("my-research-team-experiments-production.trials", 32), "my-research-…s-production.trials");
  assert.equal(cutMiddle("\u{1f680}".repeat(9), 4), "\u{1f680}…\u{1f680}\u{1f680}");
});

test("times are local, and in UTC to the microsecond", () => {
  const micros = Date.UTC(2026, 10, 27, 14, 3, 21) * 1000 + 42;
  assert.equal(utc(micros), "2026-11-27 14:03:21.000042 UTC");
  assert.equal(utc(-1), "1969-12-31 23:59:59.999999 UTC");
  assert.match(when(micros, micros / 1000), /^\d\d:\d\d:\d\d$/);
  assert.match(when(micros, Date.UTC(2026, 5, 1)), /^\d+ Nov \d\d:\d\d$/);
  assert.match(when(micros, Date.UTC(2030, 5, 1)), /^\d+ Nov 2026$/);
  assert.match(when(micros, Date.UTC(2026, 5, 1), true), /^\d+ Nov \d\d:\d\d:\d\d$/);
  assert.match(when(micros, Date.UTC(2030, 5, 1), true), /^\d+ Nov 2026 \d\d:\d\d:\d\d$/);
  assert.equal(ago(micros, micros / 1000 + 61_000), "1 min ago");
  assert.equal(ago(micros, micros / 1000), "now");
});

test("values that JSON lacks are shown as what they are", () => {
  assert.ok(Number.isNaN(numeric({ $float: "NaN" })));
  assert.equal(numeric({ $float: "-Infinity" }), -Infinity);
  assert.equal(full({ $int: "9223372036854775807" }), "9223372036854775807");
  assert.equal(full({ $bytes: "AAA=", size: 2 }), "2 B of bytes: AAA=");
  assert.equal(full({ a: [1, { $int: "5" }] }), '{"a":[1,"5"]}');
  assert.equal(full({ $long: "string", start: "a long", size: 512_000 }), "a long… (500 KiB)");
  assert.equal(full({ $long: "object", start: "", size: 2048 }), "{…} (2 KiB)");
  assert.equal(brief("x".repeat(100), 10), "xxxxxxxxx…");
  assert.equal(brief(true), "true");
  assert.deepEqual(unwrapped({ $dict: { $float: "NaN" } }), { $float: "NaN" });
  assert.deepEqual(unwrapped({ dict: { a: 1 } }), { dict: { a: 1 } });
});

test("a cut text ends with a whole character", () => {
  assert.equal(cut("ab😀cd", 4), "ab…");
  assert.equal(cut("abcd", 4), "abcd");
});
