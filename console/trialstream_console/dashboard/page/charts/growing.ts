/** The curves of a chart as they are loaded: the whole of each, a finer part of it where the chart is zoomed, new rows. */

import type { RowsEvent } from "../live";
import { numeric } from "../format";
import { appended, NO_POINTS, spliced } from "./points";
import type { Answer, Loaded } from "./series";
import type { Points, Range } from "./types";

/** The identity of a curve among those of a chart. */
export function keyOf(curve: { trial: string; name: string; group?: string | undefined }): string {
  return JSON.stringify(curve.group === undefined ? [curve.trial, curve.name] : [curve.trial, curve.name, curve.group]);
}

/** A curve: its points over all x, and those of the range that was last loaded for a zoom. */
interface Curve {
  readonly loaded: Loaded;
  whole: Points;
  /** The points of a range of x, and the range. */
  fine: { readonly points: Points; readonly range: Range } | null;
  joined: Points | null;
}

export type LiveX = "step" | "time" | "relative";

/**
 * What a batch of new rows does to the curves: nothing (they are known), new points, a request for what is missing, or,
 * after steps that go back because a later attempt has resumed, one for all: rows of the earlier attempt are superseded.
 */
export type Outcome = "known" | "grown" | "behind" | "superseded";

type Counted = Pick<Points, "total" | "counts">;

/** The counts of a line and of what follows it. */
function together(before: Counted, after: Counted): Counted {
  const counts = {
    nan: before.counts.nan + after.counts.nan,
    inf: before.counts.inf + after.counts.inf,
    neginf: before.counts.neginf + after.counts.neginf,
  };
  return { total: before.total + after.total, counts };
}

export class Growing {
  readonly curves = new Map<string, Curve>();
  readonly rowsSeen: Record<string, number> = {};
  /** Curves that are being loaded anew and are not there yet. */
  private left = new Set<string>();

  /** Begin to load all x anew: curves that are there stay until they come, or until the end. */
  beginWhole(): void {
    this.left = new Set(this.curves.keys());
  }

  /** Take an answer for all x, or a part of it. */
  takeWhole(answer: Answer): void {
    for (const loaded of answer.curves) {
      this.left.delete(keyOf(loaded));
      this.curves.set(keyOf(loaded), { loaded, whole: loaded.points, fine: null, joined: null });
    }
    Object.assign(this.rowsSeen, answer.rowsSeen);
  }

  /** Forget the curves that have not come. */
  endWhole(): void {
    for (const each of this.left) this.curves.delete(each);
    this.left.clear();
  }

  /** Take an answer for a range of x, or a part of it. */
  takeFine(answer: Answer, range: Range): void {
    for (const loaded of answer.curves) {
      const curve = this.curves.get(keyOf(loaded));
      if (curve === undefined) continue;
      curve.fine = { points: loaded.points, range };
      curve.joined = null;
    }
  }

  /** Take the answer with rows that were logged since. */
  takeLater(answer: Answer): void {
    for (const loaded of answer.curves) {
      const { x, y, marks } = loaded.points;
      const key = keyOf(loaded);
      if (answer.reset.includes(loaded.trial)) {
        this.curves.set(key, { loaded, whole: loaded.points, fine: null, joined: null });
        continue;
      }
      if (!this.curves.has(key)) this.curves.set(key, { loaded, whole: NO_POINTS, fine: null, joined: null });
      this.append(key, [...x, ...marks.x], [...y, ...Array.from(marks.kind, (kind) => [NaN, Infinity, -Infinity][kind]!)], loaded.points);
    }
    Object.assign(this.rowsSeen, answer.rowsSeen);
  }

  /** Take rows of the live stream. `started` is the zero of relative time, microseconds. */
  takeRows(event: RowsEvent, x: LiveX, started: number): Outcome {
    const seen = this.rowsSeen[event.trial];
    if (seen === undefined || event.rows_seen <= seen) return "known";
    if (event.more || event.from !== seen) return "behind";
    if (x === "step" && this.goesBack(event)) return "superseded";
    this.rowsSeen[event.trial] = event.rows_seen;
    let grown = false;
    for (const [name, { steps, times, values, counts }] of Object.entries(event.names)) {
      const key = keyOf({ trial: event.trial, name });
      const curve = this.curves.get(key);
      if (curve === undefined) continue;
      const end = curve.whole.x;
      // Rows whose step is a text, or missing, are numbered.
      const next = end.length > 0 ? end[end.length - 1]! + 1 : 0;
      const xs = times.map((time, i) => (x === "step" ? (steps[i] ?? next + i) : x === "time" ? time : (time - started) / 1e6));
      const some = counts && { total: counts.total, counts, exact: false };
      this.append(key, xs, values.map((value) => numeric(value) ?? NaN), some);
      grown = true;
    }
    return grown ? "grown" : "known";
  }

  /** The points of a curve, the finer ones where they are loaded. Their counts are those of the view. */
  points(curve: Curve, view: Range | null): Points {
    const { whole, fine } = curve;
    if (fine === null || whole.exact) return whole;
    curve.joined ??= spliced(whole, fine.points, fine.range);
    if (view === null || !isWithin(view, fine.range)) return curve.joined;
    return { ...fine.points, x: curve.joined.x, y: curve.joined.y };
  }

  /** Whether all rows within a range are there, so that no request would show more. */
  isExact(view: Range): boolean {
    return [...this.curves.values()].every(({ whole, fine }) => whole.exact || (fine?.points.exact && isWithin(view, fine.range)));
  }

  /** Whether a range is loaded in the detail that its width deserves. */
  isFine(view: Range): boolean {
    return [...this.curves.values()].every(({ whole, fine }) => {
      if (whole.exact) return true;
      if (fine === null || !isWithin(view, fine.range)) return false;
      return fine.points.exact || view[1] - view[0] >= (fine.range[1] - fine.range[0]) / 2.5;
    });
  }

  private goesBack(event: RowsEvent): boolean {
    return Object.entries(event.names).some(([name, { steps }]) => {
      const end = this.curves.get(keyOf({ trial: event.trial, name }))?.whole.x;
      const last = end && end.length > 0 ? end[end.length - 1]! : -Infinity;
      return steps.some((step, i) => step !== null && step < (i > 0 ? (steps[i - 1] ?? -Infinity) : last));
    });
  }

  /** Add rows to a curve. `all`: the counts of all rows, and whether these are all of them. */
  private append(key: string, x: readonly number[], y: readonly number[], all?: Counted & { readonly exact: boolean }): void {
    const curve = this.curves.get(key)!;
    const before = curve.whole;
    curve.whole = appended(before, x, y);
    if (all) curve.whole = { ...curve.whole, ...together(before, all), exact: curve.whole.exact && all.exact };
    if (curve.fine === null) return;
    const { points, range } = curve.fine;
    const inside = x.map((each, i) => [each, y[i]!] as const).filter(([each]) => each >= range[0] && each <= range[1]);
    if (inside.length > 0) {
      const more = appended(points, inside.map(([each]) => each), inside.map(([, each]) => each));
      curve.fine = { points: { ...more, exact: more.exact && (all?.exact ?? true) }, range };
    }
    curve.joined = null;
  }
}

function isWithin(view: Range, range: Range): boolean {
  return view[0] >= range[0] && view[1] <= range[1];
}
