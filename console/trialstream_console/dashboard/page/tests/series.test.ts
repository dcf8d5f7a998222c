import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { SeriesRequest } from "../api";
import { loadSeries, type Answer } from "../charts/series";

const asked: SeriesRequest[] = [];
let refuse: (body: SeriesRequest) => boolean;
/** Whether a trial is long, so that an answer at once has its outline only, or not even this. */
let long: (trial: string) => boolean;
let outlined: (trial: string) => boolean;

/** An answer of the server: one point for each curve, or one for each of two ranks. */
function answerOf(body: SeriesRequest): Response {
  const pending = body.outline ? [...new Set(body.curves.map((each) => each.trial).filter(long))] : [];
  const there = body.curves.filter(({ trial }) => !pending.includes(trial) || outlined(trial));
  const of = there.flatMap((each) => (each.by ? ["0", "1"].map((group) => ({ ...each, group })) : [each]));
  const specials = { nan: 0, inf: 0, neginf: 0, offset: 0, marks: 0 };
  const curves = of.map(({ trial, name, ...more }, i) => ({
    trial, name, ...("group" in more ? { group: more.group } : {}), points: 1, offset: 2 * i, total: pending.includes(trial) ? 9 : 1, exact: true, specials, text_steps: false,
  }));
  const trials = [...new Set(body.curves.map((each) => each.trial))];
  const header = JSON.stringify({ curves, rows_seen: Object.fromEntries(trials.map((each) => [each, 7])), reset: [], pending });
  const length = new TextEncoder().encode(header).length;
  const buffer = new ArrayBuffer(Math.ceil((4 + length) / 8) * 8 + 16 * curves.length);
  new DataView(buffer).setUint32(0, length, true);
  new Uint8Array(buffer, 4).set(new TextEncoder().encode(header));
  return new Response(buffer);
}

beforeEach(() => {
  asked.length = 0;
  refuse = () => false;
  long = () => true;
  outlined = () => false;
  globalThis.fetch = async (_, init) => {
    const body = JSON.parse(init!.body as string) as SeriesRequest;
    asked.push(body);
    await new Promise((done) => setTimeout(done, 1));
    init!.signal!.throwIfAborted();
    return refuse(body) ? new Response(JSON.stringify({ error: { code: "too_many", message: "busy" } }), { status: 429 }) : answerOf(body);
  };
});

const many = (count: number) => Array.from({ length: count }, (_, i) => ({ trial: `t${i}`, name: "loss" }));
const names = (answer: Answer) => answer.curves.map((each) => each.trial);

test("many curves come in parts, the first ones first, each once", async () => {
  const parts: string[][] = [];
  const curves = many(120);
  const answer = await loadSeries(curves, { x: "step", width: 100 }, new AbortController().signal, (some) => parts.push(names(some)));
  assert.ok(parts.length > 1);
  assert.deepEqual(asked[0]!.curves, curves);
  assert.equal(asked[0]!.outline, true);
  assert.ok(asked[1]!.curves.length < 10);
  assert.deepEqual(asked[1]!.curves, curves.slice(0, asked[1]!.curves.length));
  assert.deepEqual(names(answer).sort(), curves.map((each) => each.trial).sort());
  assert.deepEqual(parts.flat(), names(answer));
  assert.equal(Object.keys(answer.rowsSeen).length, 120);
});

test("curves of few rows come at once, and the outlines of others before these", async () => {
  long = (trial) => trial !== "t0" && trial !== "t3";
  outlined = (trial) => trial === "t1";
  const parts: [string, number][][] = [];
  const take = (some: Answer) => parts.push(some.curves.map(({ trial, points }) => [trial, points.total]));
  const answer = await loadSeries(many(4), { x: "step", width: 100 }, new AbortController().signal, take);
  assert.deepEqual(parts.slice(0, 3), [[["t0", 1]], [["t1", 9]], [["t3", 1]]]);
  assert.deepEqual(parts.slice(3).flat().sort(), [["t1", 1], ["t2", 1]]);
  assert.deepEqual(names(answer).sort(), ["t0", "t1", "t2", "t3"]);
  assert.ok(answer.curves.every(({ points }) => points.total === 1));
  assert.deepEqual(asked.slice(1).flatMap((each) => each.curves.map(({ trial }) => trial)).sort(), ["t1", "t2"]);
});

test("no outlines are asked for a part of the curves, or for another metric as x", async () => {
  const { signal } = new AbortController();
  await loadSeries(many(1), { x: { metric: "acc" }, width: 100 }, signal);
  for (const part of [{ from: 0 }, { to: 0 }, { until: 0 }, { since: {} }]) await loadSeries(many(1), { x: "step", width: 100, ...part }, signal);
  assert.equal(asked.length, 5);
  assert.ok(asked.every((each) => each.outline === undefined));
});

test("the curves of a trial in a chart come together, so they have the same rows", async () => {
  const curves = ["a", "b", "c"].flatMap((trial) => Array.from({ length: 40 }, (_, i) => ({ trial, name: `m${i}` })));
  const parts: Answer[] = [];
  await loadSeries(curves, { x: "time", width: 100 }, new AbortController().signal, (some) => parts.push(some));
  for (const trial of ["a", "b", "c"]) {
    const of = parts.filter((each) => names(each).includes(trial));
    assert.equal(of.length, 1);
    assert.equal(of[0]!.curves.length, 40);
    assert.deepEqual(of[0]!.rowsSeen, { [trial]: 7 });
  }
});

test("charts ask together, and each gets its own curves: of ranks, or of the whole", async () => {
  const window = { x: "relative", width: 100 } as const;
  const { signal } = new AbortController();
  const [whole, ranks, none] = await Promise.all([
    loadSeries([{ trial: "a", name: "loss" }], window, signal),
    loadSeries([{ trial: "a", name: "loss", by: "rank" }], window, signal),
    loadSeries([], window, signal),
  ]);
  assert.deepEqual(whole.curves.map((each) => each.group), [undefined]);
  assert.deepEqual(ranks.curves.map((each) => each.group), ["0", "1"]);
  assert.deepEqual(none.curves, []);
});

test("a chart that has gone asks for nothing more, and one whose request fails fails; the others have their curves", async () => {
  refuse = (body) => body.curves.some((each) => each.trial === "bad");
  const gone = new AbortController();
  const window = { x: "step", width: 200 } as const;
  const { signal } = new AbortController();
  const outcomes = Promise.allSettled([
    loadSeries(many(900), window, gone.signal, () => gone.abort()),
    loadSeries([{ trial: "bad", name: "loss" }], window, signal),
    loadSeries([{ trial: "other", name: "loss" }], { ...window, width: 300 }, signal),
  ]);
  const [left, failed, other] = await outcomes;
  assert.equal(left.status, "rejected");
  assert.equal(failed.status, "rejected");
  assert.equal(other.status, "fulfilled");
  const counts = asked.filter((each) => each.width === 200 && !each.outline).map((each) => each.curves.length);
  assert.ok(counts.reduce((sum, each) => sum + each, 0) < 900);
});
