// Small pieces of text: numbers, times, values and statuses, each with its full form as title.
import { ago, brief, cut, cutMiddle, duration, full, isLong, numeric, short, utc, when } from "./format";
import type { StatusInfo, Value } from "./shapes";

/** A number in short, in full on hover; a dash for null. */
export function Num({ value }: { value: Value | undefined }) {
  const number = numeric(value);
  if (number === null) return <span class="none" aria-label="none">–</span>;
  return <span class="num" title={full(value)}>{short(number)}</span>;
}

/** A logged value in short, in full on hover. Its direction is its own, so that it does not turn its surroundings. */
export function Val({ value, limit = 80 }: { value: Value | undefined; limit?: number }) {
  if (value === null || value === undefined) return <span class="none" aria-label="none">–</span>;
  if (numeric(value) !== null) return <Num value={value} />;
  const title = isLong(value) ? `${cut(full(value), 1900)}\nAll of it is on the page of the trial.` : cut(full(value), 2000);
  return <bdi title={title}>{brief(value, limit)}</bdi>;
}

/**
 * A text of a user, cut for the eye: names may have 10,000 characters, or another direction of writing. `ends`: cut in its
 * middle, for names whose ends tell them apart.
 */
export function Name({ text, limit = 120, ends = false }: { text: string; limit?: number; ends?: boolean }) {
  return text === "" ? <span class="none">(no name)</span> : <bdi title={cut(text, 2000)}>{(ends ? cutMiddle : cut)(text, limit)}</bdi>;
}

/** A time in the reader's zone, in UTC on hover. `relative`: as an age; `seconds`: to the second, however old it is. */
export function Time({ micros, relative, seconds = false }: { micros: number | null; relative?: boolean; seconds?: boolean }) {
  if (micros === null) return <span class="none" aria-label="none">–</span>;
  return (
    <time dateTime={new Date(micros / 1000).toISOString()} title={utc(micros)}>
      {relative ? ago(micros) : when(micros, Date.now(), seconds)}
    </time>
  );
}

export function Duration({ seconds }: { seconds: number | null }) {
  if (seconds === null) return <span class="none" aria-label="none">–</span>;
  return <span class="num" title={`${seconds} s`}>{duration(seconds)}</span>;
}

export type Phase = "created" | "running" | "failed" | "ended" | "lost";

/** The phase of a status: its hundreds; a running trial that is silent is lost. */
export function phase(status: StatusInfo): Phase {
  if (status.lost) return "lost";
  if (status.code >= 300) return "ended";
  if (status.code >= 200) return "failed";
  return status.code >= 100 ? "running" : "created";
}

/** Shapes of the phases on a grid of 12: a ring, a triangle, a cross, a tick, a broken ring. */
const SHAPES: Record<Phase, string> = {
  created: "M6 2a4 4 0 1 0 0 8a4 4 0 1 0 0-8",
  running: "M3 2L10 6L3 10Z",
  failed: "M3 3L9 9M9 3L3 9",
  ended: "M2 6.5L5 9.5L10 3",
  lost: "M6 2a4 4 0 0 1 4 4M6 10a4 4 0 0 1-4-4M5 4.5V6.5M5 8V8.4",
};

/** A status as colour, shape and text. */
export function Status({ status }: { status: StatusInfo }) {
  const its = phase(status);
  const title = status.lost ? `${status.name}, silent for a minute or longer` : `${status.name} (${status.code})`;
  return (
    <span class={`status ${its}`} title={title}>
      <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><path d={SHAPES[its]} /></svg>
      {status.lost ? <>Lost <span class="sr">({cut(status.name, 24)})</span></> : <bdi>{cut(status.name, 24)}</bdi>}
    </span>
  );
}
