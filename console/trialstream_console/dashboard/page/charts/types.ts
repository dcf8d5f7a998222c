/** What the charts draw: lines, bands, and the range of x that is in view. */

/** The unit of the horizontal axis. `time` counts microseconds since 1970 UTC, `relative` seconds since the start. */
export type XKind = "step" | "time" | "relative" | "value";

/** A range of x, both ends inclusive. */
export type Range = readonly [from: number, to: number];

/** The kinds of values that have no place on an axis, in the order of the wire: 0 NaN, 1 +inf, 2 -inf. */
export const SPECIALS = ["NaN", "+inf", "-inf"] as const;

/** Up to 200 places where a special value was logged: x, and the index of its kind in SPECIALS. */
export interface Marks {
  readonly x: Float64Array;
  readonly kind: Float64Array;
}

/** How many special values a line has in its range. */
export interface SpecialCounts {
  readonly nan: number;
  readonly inf: number;
  readonly neginf: number;
}

/** The points of one curve: all rows (exact), or first, minimum, maximum and last row of each pixel column. */
export interface Points {
  readonly x: Float64Array;
  readonly y: Float64Array;
  readonly total: number;
  readonly exact: boolean;
  readonly counts: SpecialCounts;
  readonly marks: Marks;
}

/** A curve with its name and look. `colour` is an index, see palette.ts. */
export interface Line extends Points {
  readonly key: string;
  readonly label: string;
  readonly colour: number;
  /** The steps are texts: x is the number of the row. */
  readonly textSteps: boolean;
}

/** A band between two curves with a line in its middle: ranks, seeds, quantiles; with the special values of its lines. */
export interface Band {
  readonly key: string;
  readonly label: string;
  readonly colour: number;
  readonly x: Float64Array;
  readonly low: Float64Array;
  readonly mid: Float64Array;
  readonly high: Float64Array;
  readonly counts: SpecialCounts;
  readonly marks: Marks;
}

export const NO_COUNTS: SpecialCounts = { nan: 0, inf: 0, neginf: 0 };
export const NO_MARKS: Marks = { x: new Float64Array(0), kind: new Float64Array(0) };
