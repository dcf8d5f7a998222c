/** Where an axis has its ticks, and how a tick is written. */

import type { XKind } from "./types";

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

/** Ticks at 1, 2 or 5 times a power of ten: at most `count` of them between `from` and `to`. */
export function linearTicks(from: number, to: number, count: number): number[] {
  const span = to - from;
  if (!(span > 0) || !Number.isFinite(span)) return Number.isFinite(from) ? [from] : [];
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => each * power >= rough * (1 - 1e-9)) ?? 10;
  return multiples(from, to, factor * power);
}

/**
 * Ticks of a logarithmic axis: powers of ten, thinned to at most `count`; with fewer than two powers in the range the
 * digits 2 and 5 too, and below a factor of five those of a linear axis.
 */
export function logTicks(from: number, to: number, count: number): number[] {
  if (!(from > 0) || !(to > from)) return from > 0 ? [from] : [];
  const first = Math.ceil(Math.log10(from) - 1e-9);
  const last = Math.floor(Math.log10(to) + 1e-9);
  if (last - first >= 1) {
    const powers = last - first + 1;
    if (powers * 3 <= count) return digits(from, to, [1, 2, 5]);
    const each = Math.ceil(powers / Math.max(1, count));
    const start = Math.ceil(first / each) * each;
    return Array.from({ length: Math.floor((last - start) / each) + 1 }, (_, i) => Number(`1e${start + i * each}`));
  }
  return to / from >= 5 ? digits(from, to, [1, 2, 5]) : linearTicks(from, to, count);
}

/** Ticks of a time axis (microseconds) at round local times. */
export function timeTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 0)) return [from];
  const step = TIME_STEPS.find((each) => each >= rough);
  if (step === undefined) return calendarTicks(from, to, rough);
  // Local midnight differs from that of UTC: ticks are multiples of the step in local time.
  const shift = -new Date(from / 1000).getTimezoneOffset() * MINUTE;
  return multiples(from + shift, to + shift, step).map((each) => each - shift);
}

/** Ticks of an axis of seconds since the start. */
export function durationTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 30)) return linearTicks(from, to, count);
  const step = DURATION_STEPS.find((each) => each >= rough);
  return step === undefined ? linearTicks(from / 86400, to / 86400, count).map((each) => each * 86400) : multiples(from, to, step);
}

/** The ticks of a horizontal axis. */
export function xTicks(kind: XKind, from: number, to: number, count: number, log: boolean): number[] {
  if (kind === "time") return timeTicks(from, to, count);
  if (log) return logTicks(from, to, count);
  return kind === "relative" ? durationTicks(from, to, count) : linearTicks(from, to, count);
}

/** The labels of ticks: as many digits as tell neighbours apart, and no more. */
export function tickLabels(kind: XKind, ticks: readonly number[]): string[] {
  if (kind === "time") return timeLabels(ticks);
  if (kind === "relative") return ticks.map(durationLabel);
  const gap = smallestGap(ticks);
  return ticks.map((tick) => numberLabel(tick, gap));
}

/** A number as an axis shows it: 12000 is 12k, 0.00001 is 1e-5. `gap` is the distance to the next tick. */
export function numberLabel(value: number, gap: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = gap > 0 ? Math.max(0, Math.floor(Math.log10(size)) - Math.floor(Math.log10(gap) + 1e-9)) : 5;
  if (size < 1e-4 || size >= 1e15) return value.toExponential(Math.min(digits, 15)).replace("e+", "e");
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (size < unit || (unit === 1e3 && size < 1e4)) continue;
    // Ticks such as 1000000 and 1000002 are clearer in full than as 1M and 1.000002M.
    if (gap > 0 && gap < unit / 1000) return String(value);
    return `${Number((value / unit).toPrecision(Math.min(digits + 1, 15)))}${letter}`;
  }
  return String(Number(value.toPrecision(Math.min(digits + 1, 15))));
}

/** Seconds as an axis shows them: 90 is 1:30, 5400 is 1h30, 0.002 is 2ms. */
export function durationLabel(seconds: number): string {
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "-" : "";
  if (size > 0 && size < 0.01) return `${sign}${Number((size * (size < 1e-3 ? 1e6 : 1e3)).toPrecision(4))}${size < 1e-3 ? "µs" : "ms"}`;
  if (size < 60) return `${sign}${Number(size.toPrecision(4))}s`;
  const whole = Math.round(size);
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)}:${two(whole % 60)}`;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (hours < 48) return `${sign}${hours}h${two(minutes)}`;
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

function calendarTicks(from: number, to: number, rough: number): number[] {
  const months = Math.max(1, Math.ceil(rough / (30.5 * DAY)));
  const step = [1, 2, 3, 6].find((each) => each >= months) ?? 12 * Math.ceil(months / 12);
  const out: number[] = [];
  const date = new Date(from / 1000);
  for (let month = date.getFullYear() * 12; ; month += step) {
    const tick = new Date(Math.floor(month / 12), month % 12, 1).getTime() * 1000;
    if (tick > to) return out;
    if (tick >= from) out.push(tick);
  }
}

function multiples(from: number, to: number, step: number): number[] {
  const out: number[] = [];
  // Each tick is a product, not a sum: sums of 0.1 drift off the round values.
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i++) out.push(rounded(i * step, step));
  return out;
}

function rounded(value: number, step: number): number {
  if (step >= 1) return Math.round(value) + 0; // never -0
  const places = Math.min(100, Math.max(0, -Math.floor(Math.log10(step))));
  return Number(value.toFixed(places)) + 0;
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
