// Scales of axes and colours: from values of any kind to places between 0 and 1.
import { placeOf } from "../charts/ranges";
import { linearTicks } from "../charts/ticks";
import { brief, full, numeric, short } from "../format";
import type { Value } from "../shapes";

export interface Tick { at: number; label: string }

export interface Scale {
  kind: "linear" | "log" | "category" | "empty";
  ticks: Tick[];
  /** The place of a value, 0 to 1; null for none. */
  place(value: Value | undefined): number | null;
  /** The number of a category, in the order of the ticks; null for numbers. */
  category(value: Value | undefined): number | null;
}

const CATEGORIES = 24;
const WIDE = 30; // a range of positive numbers from which a logarithmic axis shows more

function finite(value: Value | undefined): number | null {
  const number = numeric(value);
  return number !== null && Number.isFinite(number) ? number : null;
}

/** The scale of some values: numbers if all are numbers, categories otherwise. `log`: true, false, or by their range. */
export function scaleOf(values: readonly (Value | undefined)[], log?: boolean): Scale {
  const present = values.filter((each) => each !== null && each !== undefined);
  if (present.length === 0) return { kind: "empty", ticks: [], place: () => null, category: () => null };
  if (present.some((each) => numeric(each) === null)) return categories(present);
  const numbers = present.map(finite).filter((each) => each !== null);
  if (numbers.length === 0) return categories(present);
  const [low, high] = extent(numbers);
  const may = low > 0;
  return (log ?? (may && high / low >= WIDE)) && may ? logarithmic(low, high) : linear(low, high);
}

function extent(numbers: readonly number[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const each of numbers) {
    if (each < low) low = each;
    if (each > high) high = each;
  }
  return [low, high];
}

function categories(present: readonly (Value | undefined)[]): Scale {
  const names = [...new Set(present.map(full))].sort((a, b) => a.localeCompare(b, "en", { numeric: true })).slice(0, CATEGORIES);
  const places = new Map(names.map((each, index) => [each, index]));
  const at = (index: number): number => (names.length === 1 ? 0.5 : index / (names.length - 1));
  const category = (value: Value | undefined): number | null => (value === null || value === undefined ? null : places.get(full(value)) ?? null);
  return {
    kind: "category",
    ticks: names.map((each, index) => ({ at: at(index), label: brief(each, 24) })),
    category,
    place: (value) => {
      const index = category(value);
      return index === null ? null : at(index);
    },
  };
}

function linear(low: number, high: number): Scale {
  const at = (value: number): number => (low === high ? 0.5 : placeOf([low, high], value));
  const ticks = low === high ? [low] : linearTicks(low, high, 5);
  return {
    kind: "linear",
    ticks: ticks.map((each) => ({ at: at(each), label: short(each) })),
    category: () => null,
    place: (value) => {
      const number = finite(value);
      return number === null ? null : at(number);
    },
  };
}

function logarithmic(low: number, high: number): Scale {
  const from = Math.log10(low);
  const span = Math.log10(high) - from;
  const powers: number[] = [];
  for (let each = Math.ceil(from - 1e-9); each <= from + span + 1e-9; each++) powers.push(each);
  const every = Math.max(1, Math.ceil(powers.length / 6));
  const ticks = powers.filter((_, index) => index % every === 0).map((each) => ({ at: span === 0 ? 0.5 : (each - from) / span, label: short(10 ** each) }));
  return {
    kind: "log",
    ticks: ticks.length > 1 ? ticks : [{ at: 0, label: short(low) }, { at: 1, label: short(high) }],
    category: () => null,
    place: (value) => {
      const number = finite(value);
      return number === null || number <= 0 ? null : span === 0 ? 0.5 : (Math.log10(number) - from) / span;
    },
  };
}

/** A colour between two of the palette, as `rgb(…)`: what canvases and files take. */
export function blend(from: string, to: string, share: number): string {
  const a = rgb(from);
  const b = rgb(to);
  return `rgb(${a.map((each, index) => Math.round(each + ((b[index] ?? 0) - each) * share)).join(" ")})`;
}

function rgb(colour: string): number[] {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour.trim())?.[1] ?? "888888";
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
