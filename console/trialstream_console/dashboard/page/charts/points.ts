/** Operations on the points of a curve: finding, joining and thinning them. */

import type { Points, Range } from "./types";
import { NO_COUNTS, NO_MARKS } from "./types";

/**
 * The most points that a growing line keeps; at twice as many it is thinned. Four for each pixel of a wide screen: five
 * charts that grow and are drawn five times a second take the page's thread most of its time with eight times as many.
 */
export const MOST_POINTS = 8192;

export const NO_POINTS: Points = {
  x: new Float64Array(0), y: new Float64Array(0), total: 0, exact: true, counts: NO_COUNTS, marks: NO_MARKS,
};

/** Whether x never decreases. It does where rows of an earlier attempt are shown, or x is another metric. */
export function isSorted(x: Float64Array): boolean {
  for (let i = 1; i < x.length; i++) if (x[i]! < x[i - 1]!) return false;
  return true;
}

/** The index of the first x that is not below the value, in a sorted array. */
export function lowerBound(x: Float64Array, value: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The index of the point whose x is nearest to the value, or -1 if there is no point. */
export function nearest(x: Float64Array, value: number, sorted: boolean): number {
  if (x.length === 0) return -1;
  if (sorted) {
    const right = lowerBound(x, value);
    if (right === 0) return 0;
    if (right === x.length) return right - 1;
    return value - x[right - 1]! <= x[right]! - value ? right - 1 : right;
  }
  let best = 0;
  for (let i = 1; i < x.length; i++) if (Math.abs(x[i]! - value) < Math.abs(x[best]! - value)) best = i;
  return best;
}

/** The points of a coarse line with those within the range replaced by the ones of a finer line; counts of the coarse. */
export function spliced(coarse: Points, fine: Points, range: Range): Points {
  if (!isSorted(coarse.x) || !isSorted(fine.x)) return coarse;
  const left = lowerBound(coarse.x, range[0]);
  let right = lowerBound(coarse.x, range[1]);
  while (right < coarse.x.length && coarse.x[right] === range[1]) right++;
  return {
    x: joined(coarse.x.subarray(0, left), fine.x, coarse.x.subarray(right)),
    y: joined(coarse.y.subarray(0, left), fine.y, coarse.y.subarray(right)),
    total: coarse.total,
    exact: coarse.exact,
    counts: coarse.counts,
    marks: coarse.marks,
  };
}

/** The points with new ones at their end. NaN and infinities are counted and marked, not drawn. */
export function appended(points: Points, x: readonly number[], y: readonly number[]): Points {
  const newX: number[] = [];
  const newY: number[] = [];
  const markX = [...points.marks.x];
  const markKind = [...points.marks.kind];
  const counts = { ...points.counts };
  for (let i = 0; i < x.length; i++) {
    const value = y[i]!;
    if (Number.isFinite(value)) {
      newX.push(x[i]!);
      newY.push(value);
      continue;
    }
    if (Number.isNaN(value)) counts.nan++;
    else if (value > 0) counts.inf++;
    else counts.neginf++;
    markX.push(x[i]!);
    markKind.push(Number.isNaN(value) ? 0 : value > 0 ? 1 : 2);
  }
  // The marks are those of the wire, 200: the latest are the ones in view while a line grows.
  const marks = { x: Float64Array.from(markX.slice(-200)), kind: Float64Array.from(markKind.slice(-200)) };
  const total = points.total + x.length;
  const all = { x: joined(points.x, newX), y: joined(points.y, newY), total, exact: points.exact, counts, marks };
  return all.x.length > 2 * MOST_POINTS ? { ...thinned(all, MOST_POINTS / 4), exact: false } : all;
}

/** The points with at most four of each of the equal columns of x: the first, the smallest, the largest and the last. */
export function thinned(points: Points, columns: number): Points {
  const { x, y } = points;
  if (x.length <= 4 * columns || !isSorted(x)) return points;
  const from = x[0]!;
  const width = (x[x.length - 1]! - from) / columns;
  const keep: number[] = [];
  for (let start = 0; start < x.length; ) {
    const column = Math.min(columns - 1, Math.floor((x[start]! - from) / width));
    let end = start;
    let least = start;
    let most = start;
    while (end < x.length && Math.min(columns - 1, Math.floor((x[end]! - from) / width)) === column) {
      if (y[end]! < y[least]!) least = end;
      if (y[end]! > y[most]!) most = end;
      end++;
    }
    for (const i of [...new Set([start, least, most, end - 1])].sort((a, b) => a - b)) keep.push(i);
    start = end;
  }
  return { ...points, x: Float64Array.from(keep, (i) => x[i]!), y: Float64Array.from(keep, (i) => y[i]!), exact: false };
}

function joined(...parts: ArrayLike<number>[]): Float64Array {
  const out = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
