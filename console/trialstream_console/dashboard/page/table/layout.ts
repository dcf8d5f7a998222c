// Which lines a table has, and which of them are in view. A line is a trial, or the heading of a group of trials.
import { full } from "../format";
import type { Value } from "../shapes";

/** A run of trials with the same value, in the order of the table. */
export interface Group { key: string; value: Value; start: number; count: number }

/** The runs of equal values. */
export function groupsOf(values: readonly Value[]): Group[] {
  const groups: Group[] = [];
  values.forEach((value, row) => {
    const key = `${typeof value} ${full(value)}`;
    const last = groups.at(-1);
    if (last?.key === key) last.count++;
    else groups.push({ key, value, start: row, count: 1 });
  });
  return groups;
}

export type Line = { kind: "trial"; row: number } | { kind: "group"; group: Group; closed: boolean };

/** The lines of a table of `total` trials: all of them, or groups with the trials of those that are open. */
export class Lines {
  readonly count: number;
  readonly #starts: number[] = [];
  readonly #groups: readonly Group[];
  readonly #closed: ReadonlySet<string>;

  constructor(total: number, groups: readonly Group[], closed: ReadonlySet<string>) {
    this.#groups = groups;
    this.#closed = closed;
    let at = 0;
    for (const group of groups) {
      this.#starts.push(at);
      at += 1 + (closed.has(group.key) ? 0 : group.count);
    }
    const known = groups.at(-1);
    const after = known ? known.start + known.count : 0;
    this.count = at + Math.max(0, total - after);
    this.#starts.push(at);
  }

  /** The line at an index. */
  at(index: number): Line {
    const groups = this.#groups;
    if (groups.length === 0) return { kind: "trial", row: index };
    const end = this.#starts[groups.length]!;
    if (index >= end) {
      const last = groups.at(-1)!;
      return { kind: "trial", row: last.start + last.count + index - end };
    }
    let low = 0;
    let high = groups.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= index) low = middle;
      else high = middle - 1;
    }
    const group = groups[low]!;
    const inside = index - this.#starts[low]!;
    return inside === 0 ? { kind: "group", group, closed: this.#closed.has(group.key) } : { kind: "trial", row: group.start + inside - 1 };
  }
}

/** The first and the number of items of `size` that a window shows, with some before and after it. */
export function windowOf(scroll: number, height: number, size: number, count: number, more: number): { first: number; shown: number } {
  const first = Math.max(0, Math.min(count - 1, Math.floor(scroll / size)) - more);
  return { first, shown: Math.max(0, Math.min(count - first, Math.ceil(height / size) + 1 + 2 * more)) };
}

/** The columns that a window shows: from the first whose right edge is past its left, to the last that begins in it. */
export function columnsIn(edges: readonly number[], left: number, width: number): { from: number; to: number } {
  let from = 0;
  while (from < edges.length - 2 && edges[from + 1]! < left) from++;
  let to = from;
  while (to < edges.length - 1 && edges[to]! < left + width) to++;
  return { from, to };
}
