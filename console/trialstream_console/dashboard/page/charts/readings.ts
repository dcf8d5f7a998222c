/** The values of curves at the crosshair. */

import type { Frame } from "./frame";
import { pixelX, pixelY } from "./frame";
import { isSorted, nearest } from "./points";
import type { Band, Line } from "./types";

/** One curve at the crosshair: the point next to it. */
export interface Reading {
  readonly key: string;
  readonly label: string;
  readonly colour: number;
  readonly x: number;
  readonly y: number;
  /** The smoothed value, where the chart smooths. */
  readonly smooth: number | null;
  /** The edges of a band. */
  readonly edges: readonly [number, number] | null;
  /** Distance of the point to the pointer, pixels. */
  readonly distance: number;
}

const ordered = new WeakMap<Float64Array, boolean>();

function sortedOnce(x: Float64Array): boolean {
  let known = ordered.get(x);
  if (known === undefined) {
    known = isSorted(x);
    ordered.set(x, known);
  }
  return known;
}

/**
 * The readings at x, the curve nearest to the pointer first if it is within 24 pixels, then by value downwards.
 *
 * @param pointer the pixel of the pointer's y; null when the keyboard moves the crosshair
 */
export function readings(
  frame: Frame, lines: readonly Line[], bands: readonly Band[], x: number, pointer: number | null, smoothed: (line: Line) => Float64Array,
): Reading[] {
  const out: Reading[] = [];
  const add = (entry: Line | Band, xs: Float64Array, ys: Float64Array, more: (i: number) => Partial<Reading>) => {
    const i = nearest(xs, x, sortedOnce(xs));
    if (i < 0 || xs[i]! < frame.x[0] || xs[i]! > frame.x[1]) return;
    const { smooth = null, edges = null } = more(i);
    const shown = smooth ?? ys[i]!;
    const distance = pointer === null ? Infinity : Math.hypot(pixelX(frame, xs[i]!) - pixelX(frame, x), pixelY(frame, shown) - pointer);
    out.push({ key: entry.key, label: entry.label, colour: entry.colour, x: xs[i]!, y: ys[i]!, smooth, edges, distance });
  };
  for (const line of lines) {
    const y = smoothed(line);
    add(line, line.x, line.y, (i) => (y === line.y ? {} : { smooth: y[i]! }));
  }
  for (const band of bands) add(band, band.x, band.mid, (i) => ({ edges: [band.low[i]!, band.high[i]!] }));
  out.sort((a, b) => (b.smooth ?? b.y) - (a.smooth ?? a.y));
  const closest = out.reduce<Reading | null>((best, each) => (each.distance < (best?.distance ?? 24) ? each : best), null);
  return closest === null ? out : [closest, ...out.filter((each) => each !== closest)];
}
