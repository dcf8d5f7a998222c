/**
 * Requests for series: those of several charts go together; answers become points. Of whole curves the outlines of long
 * ones are asked for first, and then all of their rows, in parts.
 */

import { columns, type SeriesHeader, type SeriesRequest } from "../api";
import type { Points } from "./types";

export type CurveRequest = SeriesRequest["curves"][number];

/** All of a request but its curves. */
export type Window = Omit<SeriesRequest, "curves">;

/** A curve of an answer, with the rank or writer that it belongs to. */
export interface Loaded {
  readonly trial: string;
  readonly name: string;
  readonly group: string | undefined;
  readonly points: Points;
  readonly textSteps: boolean;
}

export interface Answer {
  readonly curves: readonly Loaded[];
  readonly rowsSeen: Readonly<Record<string, number>>;
  /** Trials whose curves are whole although later rows were asked for: rows of theirs were superseded. */
  readonly reset: readonly string[];
}

/** The most curves of one request. */
const MOST_CURVES = 200;
/** Charts that come into view together ask within this time, milliseconds. */
const TOGETHER = 15;
/** What a request should take, milliseconds. Long histories come in several: their curves are shown as they come. */
const SHORT = 300;
const AT_ONCE = 2;

/** Curves of the next request: few at first, more as long as the answers are fast. */
let pace = 2;

/** The curves of one chart that are asked for, and what becomes of them. */
interface Waiting {
  readonly signal: AbortSignal;
  readonly take: (some: Answer) => void;
  /** Takes outlines, whose curves will come. */
  readonly show: (some: Answer) => void;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  /** Requests that are not answered. */
  left: number;
  failed: boolean;
}

/** The curves of a trial in a chart. One request has all of them, so they have the same rows of the trial. */
interface Part {
  readonly curves: readonly CurveRequest[];
  readonly of: Waiting;
}

const waiting = new Map<string, Part[]>();

/**
 * The series of curves within a window. Requests for the same window at nearly the same time are sent together.
 *
 * @param take is called with each part of the answer as it comes, and with outlines of curves before these
 */
export async function loadSeries(curves: readonly CurveRequest[], window: Window, signal: AbortSignal, take: (some: Answer) => void = () => undefined): Promise<Answer> {
  const all: { curves: Loaded[]; rowsSeen: Record<string, number>; reset: string[] } = { curves: [], rowsSeen: {}, reset: [] };
  const taken = (some: Answer) => {
    all.curves.push(...some.curves);
    Object.assign(all.rowsSeen, some.rowsSeen);
    all.reset.push(...some.reset);
    take(some);
  };
  const trials = new Map<string, CurveRequest[]>();
  for (const each of curves) trials.set(each.trial, [...(trials.get(each.trial) ?? []), each]);
  if (trials.size > 0) await new Promise<void>((resolve, reject) => {
    const of: Waiting = { signal, take: taken, show: take, resolve, reject, left: trials.size, failed: false };
    const key = JSON.stringify(window);
    let parts = waiting.get(key);
    if (parts === undefined) {
      parts = [];
      waiting.set(key, parts);
      setTimeout(() => {
        const queue = waiting.get(key)!;
        waiting.delete(key);
        void answer(window, queue);
      }, TOGETHER);
    }
    for (const each of trials.values()) parts.push({ curves: each, of });
  });
  return all;
}

/** Send requests for all parts of a queue: whole curves of few rows, or in memory, come at once, others as outlines first. */
async function answer(window: Window, queue: Part[]): Promise<void> {
  if (isWhole(window)) {
    const first = queue;
    queue = [];
    for (let some = next(first, MOST_CURVES); some.length > 0; some = next(first, MOST_CURVES)) {
      queue.push(...(await request({ ...window, outline: true }, some)));
    }
  }
  for (let i = 0; i < AT_ONCE; i++) void work(window, queue);
}

function isWhole({ x, from, to, until, since }: Window): boolean {
  return typeof x === "string" && [from, to, until, since].every((each) => each === undefined);
}

/** Take the next parts of a queue: one, or several of so many curves together. */
function next(queue: Part[], most: number): Part[] {
  const some: Part[] = [];
  let count = 0;
  while (queue.length > 0 && (count === 0 || count + queue[0]!.curves.length <= most)) {
    const part = queue.shift()!;
    if (part.of.signal.aborted) fail(part.of, part.of.signal.reason);
    if (part.of.failed) continue;
    some.push(part);
    count += part.curves.length;
  }
  return some;
}

/** Send requests for the parts of a queue, one after the other, until it is empty. */
async function work(window: Window, queue: Part[]): Promise<void> {
  for (;;) {
    const some = next(queue, pace);
    if (some.length === 0) return;
    const count = some.reduce((sum, part) => sum + part.curves.length, 0);
    const began = performance.now();
    await request(window, some);
    const taken = performance.now() - began;
    pace = taken > SHORT ? Math.max(1, (count * SHORT) / taken) : Math.min(MOST_CURVES, Math.max(pace, 4 * count));
  }
}

/** Ask for parts, and return those whose rows are still to come. */
async function request(window: Window, parts: readonly Part[]): Promise<readonly Part[]> {
  const control = new AbortController();
  // The request ends early only when nobody waits for it any more.
  const check = () => parts.every((part) => part.of.signal.aborted) && control.abort();
  for (const part of parts) part.of.signal.addEventListener("abort", check);
  try {
    const curves = parts.flatMap((part) => part.curves);
    const { header, doubles } = await columns<SeriesHeader>("/series", { ...window, curves }, control.signal);
    const loaded = header.curves.map((curve) => loadedOf(curve, doubles));
    const pending = new Set(header.pending);
    for (const { curves: asked, of } of parts) {
      const wanted = new Set(asked.map((each) => nameOf(each, each.by !== undefined)));
      const { trial } = asked[0]!;
      const some = {
        curves: loaded.filter((each) => wanted.has(nameOf(each, each.group !== undefined))),
        rowsSeen: { [trial]: header.rows_seen[trial]! },
        reset: header.reset.filter((each) => each === trial),
      };
      if (pending.has(trial)) {
        if (some.curves.length > 0) of.show(some);
        continue;
      }
      of.take(some);
      of.left--;
      if (of.left === 0) of.resolve();
    }
    return parts.filter(({ curves }) => pending.has(curves[0]!.trial));
  } catch (error) {
    for (const part of parts) fail(part.of, error);
    return [];
  } finally {
    for (const part of parts) part.of.signal.removeEventListener("abort", check);
  }
}

function fail(of: Waiting, error: unknown): void {
  of.failed = true;
  of.reject(error);
}

function nameOf(curve: { trial: string; name: string }, isGrouped: boolean): string {
  return JSON.stringify([curve.trial, curve.name, isGrouped]);
}

function loadedOf(curve: SeriesHeader["curves"][number], doubles: Float64Array): Loaded {
  const { offset, points, specials } = curve;
  const take = (from: number, count: number) => doubles.subarray(from, from + count);
  return {
    trial: curve.trial,
    name: curve.name,
    group: curve.group,
    textSteps: curve.text_steps,
    points: {
      x: take(offset, points),
      y: take(offset + points, points),
      total: curve.total,
      exact: curve.exact,
      counts: { nan: specials.nan, inf: specials.inf, neginf: specials.neginf },
      marks: { x: take(specials.offset, specials.marks), kind: take(specials.offset + specials.marks, specials.marks) },
    },
  };
}
