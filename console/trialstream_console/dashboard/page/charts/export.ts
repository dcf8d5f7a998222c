/** A chart's data as a table and as JSON. */

import type { Column } from "../exporting";
import type { Band, Line } from "./types";
import { SPECIALS } from "./types";

/**
 * The points of lines and bands as columns: a row for each point.
 *
 * Lines have different x, so a table with a column for each would be mostly empty. A line that is not exact says so.
 */
export function tableOf(lines: readonly Line[], bands: readonly Band[], xLabel: string): Column[] {
  const curve: string[] = [];
  const x: number[] = [];
  const value: (number | string)[] = [];
  const exact: string[] = [];
  const low: (number | null)[] = [];
  const high: (number | null)[] = [];
  const add = (name: string, at: number, what: number | string, whole: string, least: number | null, most: number | null) => {
    curve.push(name);
    x.push(at);
    value.push(what);
    exact.push(whole);
    low.push(least);
    high.push(most);
  };
  for (const line of lines) {
    const whole = String(line.exact);
    for (let i = 0; i < line.x.length; i++) add(line.label, line.x[i]!, line.y[i]!, whole, null, null);
    for (const { x: at, value: special } of specialsOf(line)) add(line.label, at, special, whole, null, null);
  }
  for (const band of bands) {
    for (let i = 0; i < band.x.length; i++) add(band.label, band.x[i]!, band.mid[i]!, "", band.low[i]!, band.high[i]!);
    for (const { x: at, value: special } of specialsOf(band)) add(band.label, at, special, "", null, null);
  }
  const columns: Column[] = [
    { name: "curve", values: curve }, { name: xLabel, values: x }, { name: "value", values: value }, { name: "exact", values: exact },
  ];
  return bands.length > 0 ? [...columns, { name: "low", values: low }, { name: "high", values: high }] : columns;
}

/** The points of lines and bands for JSON. Values that JSON lacks are texts: "NaN", "+inf", "-inf". */
export function documentOf(lines: readonly Line[], bands: readonly Band[], xLabel: string): object {
  const numbers = (values: Float64Array) => Array.from(values, (value) => (Number.isFinite(value) ? value : null));
  return {
    x: xLabel,
    curves: lines.map((line) => ({
      name: line.label,
      rows: line.total,
      exact: line.exact,
      x: numbers(line.x),
      y: numbers(line.y),
      specials: specialsOf(line),
    })),
    bands: bands.map((band) => ({
      name: band.label, x: numbers(band.x), low: numbers(band.low), mid: numbers(band.mid), high: numbers(band.high), specials: specialsOf(band),
    })),
  };
}

function specialsOf({ marks }: Line | Band): { x: number; value: string }[] {
  return Array.from(marks.x, (x, i) => ({ x, value: SPECIALS[marks.kind[i]!] ?? "" }));
}
