/** From points to pixels: the polylines that canvas and SVG draw. */

import { isSorted, lowerBound } from "./points";
import { placeOf } from "./ranges";
import type { Marks, Range } from "./types";

/** The rectangle of a plot in pixels, and the ranges that it shows. */
export interface Frame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly x: Range;
  readonly y: Range;
  readonly xLog: boolean;
  readonly yLog: boolean;
}

/** The ranges that a plot shows; null where nothing has a place on an axis, which then has no numbers. */
export interface Scales {
  readonly x: Range | null;
  readonly y: Range | null;
  readonly xLog: boolean;
  readonly yLog: boolean;
}

/** The range of an axis on which nothing has a place. */
export function blank(log: boolean): Range {
  return log ? [1, 10] : [0, 1];
}

/** The frame of a rectangle: an axis without a range has a blank one, where marks of the other axis keep their places. */
export function frameOf(left: number, top: number, width: number, height: number, { x, y, xLog, yLog }: Scales): Frame {
  return { left, top, width, height, x: x ?? blank(xLog), y: y ?? blank(yLog), xLog, yLog };
}

/** The pixel of a value of x. */
export function pixelX(frame: Frame, value: number): number {
  return frame.left + placeOf(frame.x, value, frame.xLog) * frame.width;
}

/** The pixel of a value of y; y grows upwards. */
export function pixelY(frame: Frame, value: number): number {
  return frame.top + (1 - placeOf(frame.y, value, frame.yLog)) * frame.height;
}

/** Pixels x, y, x, y, … of one line after the other; NaN, NaN where it is interrupted. */
export type Polyline = Float64Array;

/**
 * The polyline of points in a frame: those in view and one more on each side.
 *
 * Neighbours in one column of pixels become their first, least, greatest and last, which draw the same pixels: a line has
 * at most four points a column however many rows it has. It is interrupted where y has no place on the axis, and between
 * two points with a mark between them.
 */
export function polyline(frame: Frame, x: Float64Array, y: Float64Array, gaps: Marks): Polyline {
  const sorted = isSorted(x);
  const start = sorted ? Math.max(0, lowerBound(x, frame.x[0]) - 1) : 0;
  const end = sorted ? Math.min(x.length, lowerBound(x, frame.x[1]) + 2) : x.length;
  const breaks = sorted ? Float64Array.from(gaps.x).sort() : new Float64Array(0);
  let nextBreak = sorted && start < end ? lowerBound(breaks, x[start]!) : 0;
  const out: number[] = [];
  let column = NaN;
  let first = NaN;
  let low = NaN;
  let high = NaN;
  let last = NaN;
  const flush = () => {
    if (Number.isNaN(column)) return;
    out.push(column, first);
    if (low !== first && low !== last) out.push(column, low);
    if (high !== first && high !== last) out.push(column, high);
    if (last !== first) out.push(column, last);
    column = NaN;
  };
  const interrupt = () => {
    flush();
    if (out.length > 0 && !Number.isNaN(out[out.length - 1])) out.push(NaN, NaN);
  };
  for (let i = start; i < end; i++) {
    const px = pixelX(frame, x[i]!);
    const py = clamped(pixelY(frame, y[i]!), frame);
    if (!Number.isFinite(px) || !Number.isFinite(py)) {
      interrupt();
      continue;
    }
    if (nextBreak < breaks.length && breaks[nextBreak]! <= x[i]!) {
      interrupt();
      while (nextBreak < breaks.length && breaks[nextBreak]! <= x[i]!) nextBreak++;
    }
    // Half pixels: exact places while points are far apart, few points while they are dense.
    const place = end - start > 4 * frame.width ? Math.round(px * 2) / 2 : px;
    if (place === column) {
      low = Math.max(low, py);
      high = Math.min(high, py);
      last = py;
      continue;
    }
    flush();
    column = place;
    first = low = high = last = py;
  }
  flush();
  return new Float64Array(out);
}

/** The outline of a band, upper edge forth and lower edge back, one closed part after the other. */
export function outline(frame: Frame, x: Float64Array, low: Float64Array, high: Float64Array): Polyline {
  const out: number[] = [];
  let upper: number[] = [];
  let lower: number[] = [];
  const close = () => {
    if (upper.length > 0) {
      if (out.length > 0) out.push(NaN, NaN);
      out.push(...upper, ...lower);
    }
    upper = [];
    lower = [];
  };
  for (let i = 0; i < x.length; i++) {
    const px = pixelX(frame, x[i]!);
    const top = clamped(pixelY(frame, high[i]!), frame);
    // On a logarithmic axis a lower edge at or below 0 is the bottom of the plot.
    const bottom = frame.yLog && low[i]! <= 0 ? frame.top + frame.height : clamped(pixelY(frame, low[i]!), frame);
    if (!Number.isFinite(px) || !Number.isFinite(top) || !Number.isFinite(bottom)) {
      close();
      continue;
    }
    upper.push(px, top);
    lower.unshift(px, bottom);
  }
  close();
  return new Float64Array(out);
}

/**
 * The outlines of marks in a frame, one closed part after the other: NaN as ticks at the lower edge with a gap above,
 * infinities as triangles at the edge where they went.
 *
 * @param unit the size of a CSS pixel
 */
export function markOutlines(frame: Frame, marks: Marks, unit: number): Polyline {
  const size = 5 * unit;
  const bottom = frame.top + frame.height;
  const out: number[] = [];
  marks.x.forEach((each, i) => {
    const x = pixelX(frame, each);
    if (!(x >= frame.left - size && x <= frame.left + frame.width + size)) return;
    if (out.length > 0) out.push(NaN, NaN);
    if (marks.kind[i] === 0) {
      out.push(x - unit, bottom - 2 * size, x + unit, bottom - 2 * size, x + unit, bottom, x - unit, bottom);
    } else {
      const [tip, base] = marks.kind[i] === 1 ? [frame.top, frame.top + 1.6 * size] : [bottom, bottom - 1.6 * size];
      out.push(x, tip, x - size, base, x + size, base);
    }
  });
  return new Float64Array(out);
}

/** A pixel within ten heights of the plot: canvas loses precision, and lines, far outside of it. */
function clamped(pixel: number, frame: Frame): number {
  const far = 10 * frame.height;
  return Math.min(frame.top + frame.height + far, Math.max(frame.top - far, pixel));
}
