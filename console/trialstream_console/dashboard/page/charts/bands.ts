/** A band over several lines: the least, the mean and the greatest of them at each of many places. */

import { isSorted, lowerBound } from "./points";
import type { Band, Line, Marks, SpecialCounts } from "./types";

/**
 * The band of lines, at up to `places` equally spaced x from the first point to the last.
 *
 * Between its points a line is straight; before its first and after its last point it does not count. Minimum and maximum
 * also take in every point itself, so that no spike falls between two places. Values that are not finite are counted, and
 * marked once where several lines have them.
 */
export function bandOf(lines: readonly Line[], key: string, label: string, colour: number, places: number): Band {
  const parts = lines.filter((line) => line.x.length > 0).map(inOrder);
  const from = Math.min(...parts.map((line) => line.x[0]!));
  const to = Math.max(...parts.map((line) => line.x[line.x.length - 1]!));
  const count = parts.length === 0 ? 0 : to > from ? Math.max(2, Math.floor(places)) : 1;
  const gap = count > 1 ? (to - from) / (count - 1) : 1;
  const x = Float64Array.from({ length: count }, (_, i) => from + i * gap);
  const low = new Float64Array(count).fill(Infinity);
  const high = new Float64Array(count).fill(-Infinity);
  const sums = new Float64Array(count);
  const seen = new Float64Array(count);
  const take = (i: number, value: number) => {
    low[i] = Math.min(low[i]!, value);
    high[i] = Math.max(high[i]!, value);
  };
  for (const line of parts) {
    for (let i = 0; i < line.x.length; i++) take(Math.round((line.x[i]! - from) / gap), line.y[i]!);
    for (let i = 0; i < count; i++) {
      const value = valueOf(line, x[i]!);
      if (Number.isNaN(value)) continue;
      take(i, value);
      sums[i] = sums[i]! + value;
      seen[i] = seen[i]! + 1;
    }
  }
  const filled = (values: Float64Array) => values.map((value, i) => (seen[i]! > 0 ? value : NaN));
  return {
    key, label, colour, x, low: filled(low), mid: sums.map((sum, i) => sum / seen[i]!), high: filled(high),
    counts: countsOf(lines), marks: marksOf(lines),
  };
}

function countsOf(lines: readonly Line[]): SpecialCounts {
  const sum = (kind: keyof SpecialCounts) => lines.reduce((total, { counts }) => total + counts[kind], 0);
  return { nan: sum("nan"), inf: sum("inf"), neginf: sum("neginf") };
}

function marksOf(lines: readonly Line[]): Marks {
  const kinds = new Map<number, Set<number>>();
  for (const { marks } of lines) {
    marks.x.forEach((x, i) => kinds.set(x, (kinds.get(x) ?? new Set()).add(marks.kind[i]!)));
  }
  const all = [...kinds].flatMap(([x, of]) => [...of].map((kind) => [x, kind] as const));
  return { x: Float64Array.from(all, ([x]) => x), kind: Float64Array.from(all, ([, kind]) => kind) };
}

/** A line with its points in the order of x: rows of an earlier attempt go back. */
function inOrder(line: Line): Line {
  if (isSorted(line.x)) return line;
  const order = Array.from(line.x.keys()).sort((a, b) => line.x[a]! - line.x[b]!);
  return { ...line, x: Float64Array.from(order, (i) => line.x[i]!), y: Float64Array.from(order, (i) => line.y[i]!) };
}

/** The y of a line at x, or NaN outside of it. */
function valueOf(line: Line, x: number): number {
  const last = line.x.length - 1;
  const tolerance = 1e-9 * Math.max(Math.abs(x), Math.abs(line.x[last]!));
  if (x < line.x[0]! - tolerance || x > line.x[last]! + tolerance) return NaN;
  const right = Math.min(last, lowerBound(line.x, x));
  if (right === 0 || line.x[right]! <= x) return line.y[right]!;
  const share = (x - line.x[right - 1]!) / (line.x[right]! - line.x[right - 1]!);
  return line.y[right - 1]! + share * (line.y[right]! - line.y[right - 1]!);
}
