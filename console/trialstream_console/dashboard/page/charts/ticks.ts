/** Where an axis has its ticks, and how a tick is written. */

import type { Range, XKind } from "./types";

const SECOND = 1e6;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The steps of a time axis, microseconds, up to a week; beyond that ticks are at the starts of months or years. */
const TIME_STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5,
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY,
];

/** The steps of a duration axis, seconds: decimal below a minute, then those of a clock. */
const DURATION_STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/**
 * Ticks at 1, 2 or 5 times a power of ten: about `count` of them between `from` and `to`, and at least two. Where doubles
 * have no two such numbers in the range, they are its ends.
 */
export function linearTicks(from: number, to: number, count: number): number[] {
  if (!(from < to) || !Number.isFinite(from) || !Number.isFinite(to)) return Number.isFinite(from) ? [from] : [];
  const rough = to / Math.max(1, count) - from / Math.max(1, count); // their difference may be beyond a double
  return firstWithTwo(decimals(from, to, rough), 2 * count) ?? [from, to];
}

/**
 * Ticks of a logarithmic axis: powers of ten, thinned to about `count`; with fewer than two powers in the range the
 * digits 2 and 5 too, and below a factor of five those of a linear axis. They are at least two.
 */
export function logTicks(from: number, to: number, count: number): number[] {
  if (!(from > 0) || !(to > from)) return from > 0 ? [from] : [];
  const first = Math.ceil(Math.log10(from) - 1e-9);
  const last = Math.floor(Math.log10(to) + 1e-9);
  if (last - first >= 1) {
    const powers = last - first + 1;
    if (powers * 3 <= count) return digits(from, to, [1, 2, 5]);
    const every = (each: number) => {
      const start = Math.ceil(first / each) * each;
      return Array.from({ length: Math.floor((last - start) / each) + 1 }, (_, i) => Number(`1e${start + i * each}`));
    };
    const each = Math.ceil(powers / Math.max(1, count));
    const thinned = every(each);
    return thinned.length >= 2 ? thinned : every(each - 1);
  }
  return to / from >= 5 ? digits(from, to, [1, 2, 5]) : linearTicks(from, to, count);
}

/** Ticks of a time axis (microseconds) at round local times. */
export function timeTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 0)) return [from];
  const at = TIME_STEPS.findIndex((each) => each >= rough);
  // Local midnight differs from that of UTC: ticks are multiples of the step in local time.
  const shift = -new Date(from / 1000).getTimezoneOffset() * MINUTE;
  const local = (steps: readonly number[]) => firstWithTwo(clocks(from + shift, to + shift, steps), count + 1)?.map((each) => each - shift);
  return (at < 0 ? firstWithTwo(calendars(from, to, rough), count + 1) ?? local(TIME_STEPS) : local(TIME_STEPS.slice(0, at + 1))) ?? [from];
}

/** Ticks of an axis of seconds since the start. */
export function durationTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 30)) return linearTicks(from, to, count);
  const at = DURATION_STEPS.findIndex((each) => each >= rough);
  if (at < 0) return linearTicks(from / 86400, to / 86400, count).map((each) => each * 86400);
  return firstWithTwo(clocks(from, to, [10, 30, ...DURATION_STEPS.slice(0, at + 1)]), 2 * count) ?? [];
}

/** The ticks of a horizontal axis; none without a range. */
export function xTicks(kind: XKind, range: Range | null, count: number, log: boolean): number[] {
  if (range === null) return [];
  const [from, to] = range;
  if (kind === "time") return timeTicks(from, to, count);
  if (log) return logTicks(from, to, count);
  return kind === "relative" ? durationTicks(from, to, count) : linearTicks(from, to, count);
}

/** The ticks of a vertical axis; none without a range. */
export function yTicks(range: Range | null, count: number, log: boolean): number[] {
  if (range === null) return [];
  return log ? logTicks(range[0], range[1], count) : linearTicks(range[0], range[1], count);
}

/** The labels of ticks: as many digits as tell neighbours apart, and no more; durations all in one unit. */
export function tickLabels(kind: XKind, ticks: readonly number[]): string[] {
  if (kind === "time") return timeLabels(ticks);
  if (kind === "relative") {
    const largest = Math.max(...ticks.map(Math.abs));
    return ticks.map((tick) => durationLabel(tick, smallestGap(ticks) || Infinity, largest));
  }
  // The ticks of a logarithmic axis are at different distances.
  return ticks.map((tick, i) => numberLabel(tick, smallestGap(ticks.slice(Math.max(0, i - 1), i + 2))));
}

/** A number as an axis shows it: 12000 is 12k, 0.00001 is 1e−5. `gap` is the distance to the next tick. */
export function numberLabel(value: number, gap: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = gap > 0 ? Math.max(0, Math.floor(Math.log10(size)) - Math.floor(Math.log10(gap) + 1e-9)) : 5;
  if (digits >= 15) return minus(String(value).replace("e+", "e")); // all digits that the number has
  if (size < 1e-4 || size >= 1e15) return minus(value.toExponential(digits).replace(/\.?0+e/, "e").replace("e+", "e"));
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (size < unit || (unit === 1e3 && size < 1e4)) continue;
    // Ticks such as 1000000 and 1000002 are clearer in full than as 1M and 1.000002M, and 19999 than 19.999k.
    if (gap > 0 && gap < unit / (unit === 1e3 ? 100 : 1000)) return minus(String(value));
    return minus(`${Number((value / unit).toPrecision(digits + 1))}${letter}`);
  }
  return minus(String(Number(value.toPrecision(digits + 1))));
}

/**
 * Seconds as an axis shows them: 90 is 1:30, 5400 is 1h30, 0.002 is 2ms.
 *
 * @param gap the distance to the next tick
 * @param largest the largest tick, which decides on the unit of all
 */
export function durationLabel(seconds: number, gap = Infinity, largest = Math.abs(seconds)): string {
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  const [unit, name] = largest >= 1 || largest === 0 ? [1, "s"] : largest >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"];
  if (largest < 60) return `${sign}${minus(String(Number((size / unit).toPrecision(12))))}${name}`;
  const two = (value: number) => String(value).padStart(2, "0");
  if (largest < 3600 || gap < 60) {
    const places = gap < 1 ? Math.min(6, Math.ceil(-Math.log10(gap) - 1e-9)) : 0;
    const clock = Number(size.toFixed(places));
    const minutes = Math.floor(clock / 60);
    const rest = (clock - minutes * 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
    return minutes < 60 ? `${sign}${minutes}:${rest}` : `${sign}${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
  }
  const minutes = Math.round(size / 60);
  const hours = Math.floor(minutes / 60);
  if (largest < 48 * 3600 || gap < 3600) return `${sign}${hours}h${two(minutes % 60)}`;
  return hours % 24 === 0 ? `${sign}${hours / 24}d` : `${sign}${Math.floor(hours / 24)}d${hours % 24}h`;
}

function timeLabels(ticks: readonly number[]): string[] {
  const gap = smallestGap(ticks);
  let day = "";
  return ticks.map((tick) => {
    const date = new Date(tick / 1000);
    const pad = (value: number, width = 2) => String(value).padStart(width, "0");
    const today = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
    if (gap >= DAY) return today;
    let text = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
    if (gap < MINUTE) text += `:${pad(date.getSeconds())}`;
    if (gap < SECOND) text += `.${pad(Math.round(((tick % SECOND) + SECOND) % SECOND), 6).replace(/0+$/, "")}`;
    if (text.endsWith(".")) text = text.slice(0, -1);
    const label = today === day ? text : `${today.slice(5)} ${text}`;
    day = today;
    return label;
  });
}

/** The first of some lists of ticks, coarse ones first, that has two; every second of its ticks if they are more than `most`. */
function firstWithTwo(lists: Iterable<number[]>, most: number): number[] | undefined {
  for (const ticks of lists) {
    if (ticks.length >= 2) return ticks.length > most ? ticks.filter((_, i) => i % 2 === 0) : ticks;
  }
  return undefined;
}

/** Ticks at multiples of 1, 2 or 5 times a power of ten, of the step above `rough` and of finer ones. */
function* decimals(from: number, to: number, rough: number): Generator<number[]> {
  const power = Math.floor(Math.log10(rough));
  const steps = [power - 1, power, power + 1].flatMap((exponent) => [1, 2, 5].map((digit) => ({ digit, exponent, step: Number(`${digit}e${exponent}`) })));
  for (let at = steps.findIndex((each) => each.step >= rough * (1 - 1e-9)); at >= 0; at--) {
    const { digit, exponent, step } = steps[at]!;
    const [first, last] = [Math.ceil(from / step - 1e-9), Math.floor(to / step + 1e-9)];
    // Beyond the whole numbers of doubles, or below the least of them, no two multiples can be told apart.
    if (!(Math.max(Math.abs(first), Math.abs(last)) < 1e15)) return;
    // Each tick is read from its decimal digits: products of 0.1 drift off the round values.
    yield Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(`${(first + i) * digit}e${exponent}`));
  }
}

/** Ticks at multiples of whole steps, of the last one and of those before it. */
function* clocks(from: number, to: number, steps: readonly number[]): Generator<number[]> {
  for (const step of [...steps].reverse()) {
    const [first, last] = [Math.ceil(from / step - 1e-9), Math.floor(to / step + 1e-9)];
    yield Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step + 0); // never -0
  }
}

/** Ticks at the starts of months or years. */
function* calendars(from: number, to: number, rough: number): Generator<number[]> {
  for (let months = Math.max(1, Math.ceil(rough / (30.5 * DAY))); months >= 1; months = Math.floor(months / 2)) {
    const step = [1, 2, 3, 6].find((each) => each >= months) ?? 12 * Math.ceil(months / 12);
    const ticks: number[] = [];
    for (let month = new Date(from / 1000).getFullYear() * 12; ; month += step) {
      const tick = new Date(Math.floor(month / 12), month % 12, 1).getTime() * 1000;
      if (!(tick <= to)) break;
      if (tick >= from) ticks.push(tick);
    }
    yield ticks;
  }
}

function digits(from: number, to: number, which: readonly number[]): number[] {
  const out: number[] = [];
  for (let exponent = Math.floor(Math.log10(from)); exponent <= Math.log10(to); exponent++) {
    for (const digit of which) {
      const tick = Number(`${digit}e${exponent}`);
      if (tick >= from * (1 - 1e-9) && tick <= to * (1 + 1e-9)) out.push(tick);
    }
  }
  return out;
}

function smallestGap(ticks: readonly number[]): number {
  let gap = Infinity;
  for (let i = 1; i < ticks.length; i++) gap = Math.min(gap, Math.abs(ticks[i]! - ticks[i - 1]!));
  return Number.isFinite(gap) ? gap : 0;
}

function minus(text: string): string {
  return text.replaceAll("-", "−");
}
