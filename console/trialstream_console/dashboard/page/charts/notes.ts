/** What a reader should know of the curves of a chart, as text. */

import { count, counted } from "../format";
import type { Band, Line, Range, SpecialCounts, XKind } from "./types";

/** The numbers of special values, each with its name; nothing of kinds that there are none of. */
export function specialsOf(counts: readonly SpecialCounts[]): string[] {
  const sum = (of: (each: SpecialCounts) => number) => counts.reduce((total, each) => total + of(each), 0);
  const numbers: [string, number][] = [["NaN", sum((each) => each.nan)], ["+inf", sum((each) => each.inf)], ["−inf", sum((each) => each.neginf)]];
  return numbers.filter(([, number]) => number > 0).map(([name, number]) => `${count(number)} ${name}`);
}

/** How many rows there are, whether all are shown, what is not on the axis. */
export function notes(lines: readonly Line[], bands: readonly Band[], xKind: XKind, yLog: boolean): string {
  const sum = (of: (line: Line) => number) => lines.reduce((total, line) => total + of(line), 0);
  const parts = lines.length === 0 ? [] : [`${counted(sum((line) => line.total), "row")}${lines.every((each) => each.exact) ? "" : ", of each pixel the least and the greatest"}`];
  parts.push(...specialsOf([...lines, ...bands].map((each) => each.counts)));
  if (yLog) {
    const below = sum((line) => line.y.reduce((total, value) => total + (value <= 0 ? 1 : 0), 0));
    if (below > 0) parts.push(`${count(below)} at or below 0, which a logarithmic axis lacks`);
  }
  if (xKind === "step" && lines.some((each) => each.textSteps)) parts.push("steps are texts: numbered in their order");
  return parts.join(" · ");
}

/**
 * Why no curve is drawn, where none has a place on both axes; null if there are no rows at all.
 *
 * @param x the range that is shown; null if no x has a place on the axis
 * @param isWhole whether the range is that of all rows, whose special values are counted
 */
export function absence(curves: readonly (Line | Band)[], x: Range | null, isWhole: boolean, yLog: boolean): string | null {
  if (curves.every((each) => each.x.length === 0 && each.marks.x.length === 0)) return null;
  if (x === null) return "No x above 0, as log x needs";
  const isInView = (each: number) => each >= x[0] && each <= x[1];
  const hasFinite = curves.some((each) => ("mid" in each ? each.mid : each.y).some((value, i) => Number.isFinite(value) && isInView(each.x[i]!)));
  if (hasFinite && yLog) return "No value above 0, as log y needs";
  if (!curves.some((each) => each.x.some(isInView) || each.marks.x.some(isInView))) return "No rows in view";
  if (!isWhole) return "No finite value in view";
  return ["No finite value", ...specialsOf(curves.map((each) => each.counts))].join(" · ");
}
