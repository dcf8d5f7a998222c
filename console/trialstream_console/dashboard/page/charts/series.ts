/** Requests for series: those of several charts become one, and a binary answer becomes points. */

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

interface Waiting {
  readonly curves: readonly CurveRequest[];
  readonly signal: AbortSignal;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

const waiting = new Map<string, { window: Window; parts: Waiting[] }>();

/** The series of curves within a window. Requests for the same window at nearly the same time are sent as one. */
export function loadSeries(curves: readonly CurveRequest[], window: Window, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const key = JSON.stringify(window);
    let batch = waiting.get(key);
    if (batch === undefined) {
      batch = { window, parts: [] };
      waiting.set(key, batch);
      setTimeout(() => send(key), TOGETHER);
    }
    batch.parts.push({ curves, signal, resolve, reject });
  });
}

function send(key: string): void {
  const batch = waiting.get(key)!;
  waiting.delete(key);
  let group: Waiting[] = [];
  let count = 0;
  for (const part of batch.parts) {
    if (part.signal.aborted) {
      part.reject(part.signal.reason);
      continue;
    }
    if (count + part.curves.length > MOST_CURVES && group.length > 0) {
      void request(batch.window, group);
      group = [];
      count = 0;
    }
    group.push(part);
    count += part.curves.length;
  }
  if (group.length > 0) void request(batch.window, group);
}

async function request(window: Window, parts: readonly Waiting[]): Promise<void> {
  const control = new AbortController();
  // The request ends early only when nobody waits for it any more.
  const check = () => parts.every((part) => part.signal.aborted) && control.abort();
  for (const part of parts) part.signal.addEventListener("abort", check);
  try {
    const curves = parts.flatMap((part) => part.curves);
    const { header, doubles } = await columns<SeriesHeader>("/series", { ...window, curves }, control.signal);
    const loaded = header.curves.map((curve) => loadedOf(curve, doubles));
    for (const part of parts) {
      const wanted = new Set(part.curves.map((each) => `${each.trial} ${each.name}`));
      part.resolve({ curves: loaded.filter((each) => wanted.has(`${each.trial} ${each.name}`)), rowsSeen: header.rows_seen, reset: header.reset });
    }
  } catch (error) {
    for (const part of parts) part.reject(error);
  } finally {
    for (const part of parts) part.signal.removeEventListener("abort", check);
  }
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
