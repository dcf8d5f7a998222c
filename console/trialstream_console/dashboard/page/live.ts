// What changes, as it changes: one EventSource for the tab, opened anew when the view looks at something else.
import { useEffect, useRef, useState } from "preact/hooks";
import { link } from "./address";
import type { Value } from "./shapes";

/** What the view shows, for the server to choose the events. */
export interface Interest {
  project?: string | null;
  group?: string | null;
  trial?: string | null;
  /** Names of metrics whose rows are wanted, of `trial`. */
  curves?: readonly string[];
  /** Cursor of the answer that the view shows. */
  since?: string | null;
}

export interface TrialsEvent { uids: string[]; more: boolean }
export interface RowCounts { total: number; nan: number; inf: number; neginf: number }
export interface RowsEvent {
  trial: string;
  from: number;
  rows_seen: number;
  /** By name of the metric; with `counts` of all rows where only those that a plot needs are there. */
  names: Record<string, { steps: (number | null)[]; times: number[]; values: Value[]; counts?: RowCounts }>;
  more: boolean;
}
export interface StateEvent { mongo: string; kafka: string; live: string }

export interface Handlers {
  trials?: (event: TrialsEvent) => void;
  rows?: (event: RowsEvent) => void;
  state?: (event: StateEvent) => void;
  /** The cursor is too old, or the connection was lost for long: load anew. */
  reset?: () => void;
}

export type Connection = "connecting" | "open" | "lost" | "paused";

const HIDDEN = 30_000; // a tab that is hidden for longer than this closes its connection, milliseconds
const FIRST = 1500; // a view that wants no events opens no connection, so the page opens one for its state, milliseconds
const RETRY = [1000, 2000, 5000, 10_000]; // after the server has refused, milliseconds

let source: EventSource | null = null;
let interest: Interest = {};
let handlers: Handlers = {};
let cursor: string | null = null;
let tries = 0;
let retry: ReturnType<typeof setTimeout> | undefined;
let hiding: ReturnType<typeof setTimeout> | undefined;
let connection: Connection = "connecting";
let servers: StateEvent | null = null;
const listeners = new Set<() => void>();

function told(next: Connection): void {
  if (next === connection) return;
  connection = next;
  for (const each of [...listeners]) each();
}

function close(): void {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function open(): void {
  close();
  const { project, group, trial, curves } = interest;
  const address = link("/api/v1/live", { project, group, trial, curves, since: cursor });
  const opened = new EventSource(address);
  source = opened;
  opened.onopen = () => {
    tries = 0;
    told("open");
  };
  opened.onerror = () => {
    if (source !== opened) return;
    told("lost");
    // The browser connects again by itself, with Last-Event-ID, unless the server has refused the request.
    if (opened.readyState !== EventSource.CLOSED) return;
    retry = setTimeout(open, RETRY[Math.min(tries++, RETRY.length - 1)]);
  };
  const on = (name: keyof Handlers): void => {
    opened.addEventListener(name, (event) => {
      if (source !== opened) return;
      const { data, lastEventId } = event as MessageEvent<string>;
      if (lastEventId) cursor = lastEventId;
      receive(name, JSON.parse(data));
    });
  };
  for (const name of ["trials", "rows", "state", "reset"] as const) on(name);
}

function receive(name: keyof Handlers, data: unknown): void {
  if (name === "state") {
    servers = data as StateEvent;
    for (const each of [...listeners]) each();
  }
  if (name === "reset") cursor = null;
  (handlers[name] as ((data: unknown) => void) | undefined)?.(data);
}

function visibility(): void {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      close();
      told("paused");
    }, HIDDEN);
  } else if (source === null) {
    told("connecting");
    open();
  }
}

/** Begin: the connection follows the visibility of the tab. */
export function startLive(): void {
  document.addEventListener("visibilitychange", visibility);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  setTimeout(() => source === null && !document.hidden && open(), FIRST);
}

/** Events of what the view shows, until it shows something else. The connection is opened anew when the interest changes. */
export function useLive(wanted: Interest | null, on: Handlers): void {
  const latest = useRef(on);
  latest.current = on;
  const { project, group, trial, curves } = wanted ?? {};
  const key = wanted && JSON.stringify([project ?? null, group ?? null, trial ?? null, curves ?? []]);
  useEffect(() => {
    if (wanted === null) return;
    interest = wanted;
    cursor = wanted.since ?? null;
    const mine: Handlers = {
      trials: (event) => latest.current.trials?.(event),
      rows: (event) => latest.current.rows?.(event),
      state: (event) => latest.current.state?.(event),
      reset: () => latest.current.reset?.(),
    };
    handlers = mine;
    if (!document.hidden) open();
    return () => {
      if (handlers === mine) handlers = {};
    };
  }, [key]);
}

/** The state of the connection, and of the servers behind it as far as they are known. */
export function useConnection(): { connection: Connection; servers: StateEvent | null } {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const listen = (): void => setTurn((before) => before + 1);
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return { connection, servers };
}
