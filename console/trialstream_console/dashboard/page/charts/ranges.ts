/** Ranges of an axis: zoom, pan, and the range that holds all points. */

import { isSorted, lowerBound } from "./points";
import type { Band, Line, Range, XKind } from "./types";

/**
 * A range that is smaller (factor below 1) or larger, with the place `at` (0 to 1 of the range) where it was.
 *
 * On a logarithmic axis the place and the factor are those of the logarithm. A range that would become narrower than
 * doubles can tell apart is returned as it is.
 */
export function zoom(range: Range, factor: number, at = 0.5, log = false): Range {
  const [from, to] = log ? [Math.log(range[0]), Math.log(range[1])] : range;
  const centre = from + (to - from) * at;
  const next: Range = [centre + (from - centre) * factor, centre + (to - centre) * factor];
  const width = next[1] - next[0];
  if (!(width > 1e-12 * Math.max(Math.abs(next[0]), Math.abs(next[1]))) || !Number.isFinite(width)) return range;
  if (!log) return next;
  const back: Range = [Math.exp(next[0]), Math.exp(next[1])];
  return back[0] > 0 && Number.isFinite(back[1]) ? back : range;
}

/** A range moved by a share of its width: 0.5 is half a width to the right. */
export function pan(range: Range, share: number, log = false): Range {
  const [from, to] = log ? [Math.log(range[0]), Math.log(range[1])] : range;
  const shift = (to - from) * share;
  return log ? [Math.exp(from + shift), Math.exp(to + shift)] : [from + shift, to + shift];
}

/** The value at a place (0 to 1) of the range. */
export function valueAt(range: Range, place: number, log = false): number {
  if (!log) return range[0] + (range[1] - range[0]) * place;
  return Math.exp(Math.log(range[0]) + (Math.log(range[1]) - Math.log(range[0])) * place);
}

/** The place (0 to 1 inside the range) of a value; NaN if it has none, as 0 on a logarithmic axis. */
export function placeOf(range: Range, value: number, log = false): number {
  if (log && !(value > 0)) return NaN;
  // Logarithms do not tell the numbers of a very narrow range apart, where both scales are the same.
  if (log && range[1] / range[0] > 1 + 1e-9) return (Math.log(value) - Math.log(range[0])) / (Math.log(range[1]) - Math.log(range[0]));
  const width = range[1] - range[0];
  // The width may be beyond a double; its half is not.
  return Number.isFinite(width) ? (value - range[0]) / width : (value / 2 - range[0] / 2) / (range[1] / 2 - range[0] / 2);
}

/** Half the range of x around a single point: a little more than one step or second, whose labels then have room. */
const ALONE: Record<XKind, number | undefined> = { step: 1.25, relative: 1.25, time: 1.25e6, value: undefined };

/** The smallest and the largest x of the lines and bands, or null if there is no point; above 0 only if `log`. */
export function wholeX(lines: readonly Line[], bands: readonly Band[], kind: XKind, log = false): Range | null {
  let from = Infinity;
  let to = -Infinity;
  for (const { x } of [...lines, ...bands]) {
    for (let i = 0; i < x.length; i++) {
      if (log && !(x[i]! > 0)) continue;
      if (x[i]! < from) from = x[i]!;
      if (x[i]! > to) to = x[i]!;
    }
  }
  for (const { marks } of [...lines, ...bands]) {
    for (const each of marks.x) {
      if (log && !(each > 0)) continue;
      if (each < from) from = each;
      if (each > to) to = each;
    }
  }
  return widened(from, to, log, ALONE[kind]);
}

/**
 * The range of y of what lies within a range of x, with some room; or null if nothing does.
 *
 * Between two points that both are outside, a line is in view without a point: the range is then that of these points.
 */
export function wholeY(lines: readonly Line[], bands: readonly Band[], x: Range, log = false): Range | null {
  let from = Infinity;
  let to = -Infinity;
  const add = (value: number) => {
    if (!Number.isFinite(value) || (log && value <= 0)) return;
    if (value < from) from = value;
    if (value > to) to = value;
  };
  const take = (xs: Float64Array, ys: Float64Array) => {
    for (let i = 0; i < xs.length; i++) if (xs[i]! >= x[0] && xs[i]! <= x[1]) add(ys[i]!);
  };
  for (const line of lines) take(line.x, line.y);
  for (const band of bands) {
    take(band.x, band.low);
    take(band.x, band.high);
  }
  if (from > to) {
    for (const line of lines) {
      if (line.marks.x.some((each) => each >= x[0] && each <= x[1]) || !isSorted(line.x)) continue;
      const right = lowerBound(line.x, x[0]);
      if (right === 0 || right === line.x.length || line.x[right]! <= x[1]) continue;
      add(line.y[right - 1]!);
      add(line.y[right]!);
    }
  }
  const range = widened(from, to, log);
  return range && zoom(range, 1.08, 0.5, log);
}

/** The range, wider if it is a single value: by `room` on each side, or in proportion to the value. */
function widened(from: number, to: number, log: boolean, room?: number): Range | null {
  if (!(from <= to)) return null;
  if (from < to) return [from, to];
  if (log) return [Math.max(from / 2, Number.MIN_VALUE), Math.min(from * 2, Number.MAX_VALUE)];
  const side = room ?? (Math.abs(from) * 0.05 || 1);
  return [Math.max(from - side, -Number.MAX_VALUE), Math.min(from + side, Number.MAX_VALUE)];
}
