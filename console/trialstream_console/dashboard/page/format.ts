// Values as short texts; the full value goes into the title of what shows them.
import type { Value } from "./shapes";

/** A number in at most about seven characters: 0.02345, 1.234e-7, 12.35 k. */
export function short(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size < 1e-4 || size >= 1e15) return minus(value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e"));
  if (Number.isInteger(value) && size < 100_000) return minus(String(value));
  if (size >= 999_950) return scaled(value);
  return minus(trimmed(size >= 10_000 ? value.toFixed(0) : value.toPrecision(4)));
}

function scaled(value: number): string {
  const units: [number, string][] = [[1e12, "T"], [1e9, "G"], [1e6, "M"]];
  const [unit, name] = units.find(([size]) => Math.abs(value) >= size * 0.99995) ?? [1e6, "M"];
  return `${minus(trimmed((value / unit).toPrecision(4)))} ${name}`;
}

/** Without the zeros at the end of a fraction. */
function trimmed(text: string): string {
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

function minus(text: string): string {
  return text.replace("-", "−");
}

/** Whole numbers with separated thousands: 10 000. */
export function count(value: number): string {
  return minus(Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f"));
}

/** "1 trial", "3 trials". */
export function counted(value: number, singular: string, plural?: string): string {
  return `${count(value)} ${noun(value, singular, plural)}`;
}

/** The noun of a number that is shown beside it. */
export function noun(value: number, singular: string, plural = `${singular}s`): string {
  return value === 1 ? singular : plural;
}

export function percent(share: number): string {
  return `${short(Math.round(share * 1000) / 10)} %`;
}

export function bytes(size: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = size;
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : trimmed(value.toPrecision(value >= 1000 ? 4 : 3))} ${units[unit]}`;
}

/** A length of time: 12 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (size === 0) return "0 s";
  if (size < 0.001) return `${sign}${trimmed((size * 1e6).toPrecision(3))} µs`;
  if (size < 0.9995) return `${sign}${trimmed((size * 1000).toPrecision(3))} ms`;
  if (size < 59.95) return `${sign}${trimmed(size.toPrecision(3))} s`;
  const whole = Math.round(size);
  if (whole < 3600) return `${sign}${two(Math.floor(whole / 60), "min", whole % 60, "s")}`;
  const minutes = Math.round(size / 60);
  if (minutes < 1440) return `${sign}${two(Math.floor(minutes / 60), "h", minutes % 60, "min")}`;
  const hours = Math.round(size / 3600);
  return `${sign}${two(Math.floor(hours / 24), "d", hours % 24, "h")}`;
}

function two(large: number, unit: string, small: number, smallUnit: string): string {
  return small ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`;
}

/** A time in the reader's zone: "14:03:21" today, "27 Nov 14:03" this year, "27 Nov 2026" otherwise; with `seconds`, always these. */
export function when(micros: number, now = Date.now(), seconds = false): string {
  const time = new Date(micros / 1000);
  if (Number.isNaN(time.getTime())) return "–";
  const present = new Date(now);
  const isToday = time.toDateString() === present.toDateString();
  const clock = `${pad(time.getHours())}:${pad(time.getMinutes())}${isToday || seconds ? `:${pad(time.getSeconds())}` : ""}`;
  if (isToday) return clock;
  const day = `${time.getDate()} ${MONTHS[time.getMonth()]}`;
  if (seconds && time.getFullYear() !== present.getFullYear()) return `${day} ${time.getFullYear()} ${clock}`;
  return time.getFullYear() === present.getFullYear() ? `${day} ${clock}` : `${day} ${time.getFullYear()}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** The same time in UTC with its microseconds, for titles. */
export function utc(micros: number): string {
  const time = new Date(Math.floor(micros / 1000));
  if (Number.isNaN(time.getTime())) return `${micros} µs since 1970`;
  return `${time.toISOString().replace("T", " ").slice(0, 19)}.${String(((micros % 1e6) + 1e6) % 1e6).padStart(6, "0")} UTC`;
}

/** The age of a time: "12 s ago", "3 min ago". */
export function ago(micros: number, now = Date.now()): string {
  const seconds = now / 1000 - micros / 1e6;
  if (seconds < 1) return "now";
  const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = units.find(([each]) => seconds >= each) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

/** Whether a value is a dict, or one of the forms that stand for what JSON lacks. */
export function isObject(value: Value): value is { [key: string]: Value } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value as a number, NaN and ±inf included; null if it is none. */
export function numeric(value: Value | undefined): number | null {
  if (typeof value === "number") return value;
  if (value === undefined || value === null || !isObject(value)) return null;
  if ("$float" in value) return { NaN, Infinity, "-Infinity": -Infinity }[value["$float"] as "NaN"] ?? null;
  return "$int" in value ? Number(value["$int"]) : null;
}

/** A value in full, as text. */
export function full(value: Value | undefined): string {
  if (value === undefined) return "";
  if (value === null) return "null";
  if (typeof value === "string") return value;
  if (!isObject(value)) return typeof value === "object" ? JSON.stringify(plain(value)) : String(value);
  if ("$float" in value) return String(value["$float"]).replace("Infinity", "inf");
  if ("$int" in value) return String(value["$int"]);
  if ("$bytes" in value) return `${bytes(Number(value["size"]))} of bytes: ${String(value["$bytes"])}`;
  if ("$long" in value) return long(value);
  return JSON.stringify(plain(value));
}

/** Whether a value of a table was too large for it: the trial's own page has all of it. */
export function isLong(value: Value | undefined): boolean {
  return value !== undefined && value !== null && isObject(value) && "$long" in value;
}

const LONG: Record<string, string> = { object: "{…}", array: "[…]", binData: "bytes" };

function long(value: { [key: string]: Value }): string {
  const size = bytes(Number(value["size"]));
  return value["$long"] === "string" ? `${String(value["start"])}… (${size})` : `${LONG[String(value["$long"])] ?? "…"} (${size})`;
}

/** A value without the forms that stand for what JSON lacks, for texts. */
function plain(value: Value): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (!isObject(value)) return value;
  if ("$float" in value || "$int" in value || "$bytes" in value) return full(value);
  return Object.fromEntries(Object.entries(unwrapped(value)).map(([key, each]) => [key, plain(each)]));
}

/** The dict that a value stands for: one with a key that begins with "$" comes as {"$dict": …}. */
export function unwrapped(value: { [key: string]: Value }): { [key: string]: Value } {
  const inner = value["$dict"];
  return inner !== undefined && isObject(inner) ? inner : value;
}

/** A value in short: numbers rounded, texts cut at `limit` characters. */
export function brief(value: Value | undefined, limit = 80): string {
  const number = numeric(value);
  if (number !== null) return short(number);
  return cut(value === null ? "–" : full(value), limit);
}

/** A text of at most `limit` characters, without a half of a character at its end. */
export function cut(text: string, limit = 80): string {
  if (text.length <= limit) return text;
  const end = text.charCodeAt(limit - 2);
  return `${text.slice(0, end >= 0xd800 && end < 0xdc00 ? limit - 2 : limit - 1)}…`;
}

/** A text of at most about `limit` characters, cut in its middle: of names with a common beginning, the ends differ. */
export function cutMiddle(text: string, limit: number): string {
  const parts = [...text];
  if (parts.length <= limit) return text;
  const end = Math.ceil((limit - 1) * 0.6);
  return `${parts.slice(0, limit - 1 - end).join("")}…${parts.slice(-end).join("")}`;
}
