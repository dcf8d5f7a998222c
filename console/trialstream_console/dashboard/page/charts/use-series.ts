/** The hook that keeps the curves of a chart loaded: whole at first, finer on zoom, growing with the live rows. */

import { useEffect, useRef, useState } from "preact/hooks";
import { isAbort } from "../api";
import type { RowsEvent } from "../live";
import { passing } from "../states";
import { Growing, type LiveX } from "./growing";
import { zoom } from "./ranges";
import { loadSeries, type Answer, type CurveRequest, type Window } from "./series";
import type { Range } from "./types";

/** A source of live rows: a view has one connection and hands its rows to all charts. */
export interface RowsSource {
  subscribe(listener: (event: RowsEvent) => void): () => void;
}

export interface SeriesOptions {
  readonly x: Window["x"];
  readonly view: Range | null;
  /** Width of the plot, CSS pixels; 0 while it is not known. */
  readonly width: number;
  readonly xLog: boolean;
  readonly attempts?: boolean;
  /** Rows up to this time only, microseconds. */
  readonly until?: number | undefined;
  readonly rows?: RowsSource | undefined;
  /** The zero of relative time, microseconds. */
  readonly started: number;
}

export interface Series {
  readonly growing: Growing;
  /** It changes with each change of the curves. */
  readonly version: number;
  readonly loading: boolean;
  readonly error: unknown;
  reload(): void;
}

/** The pause after a zoom before its range is asked for, milliseconds: one request for a turn of the wheel. */
const PAUSE = 120;
/** The least and the longest pause between two requests for rows that came since, milliseconds; and in answers' times. */
const CATCH_UP = { least: 250, longest: 1000, times: 10 };
const AGAIN = 3000;
/** The least time between two drawings of curves that come in parts, milliseconds; drawing takes a quarter of it at most. */
const REDRAW = 250;

export function useSeries(curves: readonly CurveRequest[], options: SeriesOptions): Series {
  const { x, view, xLog, attempts, until, rows, started } = options;
  const identity = JSON.stringify([curves, x, attempts]);
  // Widths in hundreds: charts of nearly the same width share a request, and a resize by a few pixels needs none.
  const width = Math.min(4096, Math.ceil(options.width / 100) * 100);
  const growing = useRef<{ identity: string; value: Growing }>({ identity, value: new Growing() });
  if (growing.current.identity !== identity) growing.current = { identity, value: new Growing() };
  const its = growing.current.value;
  const [version, setVersion] = useState(0);
  const [state, setState] = useState<{ loading: boolean; error: unknown }>({ loading: true, error: undefined });
  const [turn, setTurn] = useState(0);
  const [wholes, setWholes] = useState(0);
  const changed = () => setVersion((before) => before + 1);
  const endWhole = () => {
    its.endWhole();
    setWholes((before) => before + 1);
  };
  const shared = { x, ...(attempts ? { attempts } : {}), ...(until === undefined ? {} : { until }) };

  const load = (window: Window, signal: AbortSignal, take: (some: Answer) => void, end: () => void = () => undefined) => {
    setState((before) => ({ ...before, loading: true }));
    let timer: ReturnType<typeof setTimeout> | undefined;
    let next = 0;
    const draw = () => {
      timer = undefined;
      if (signal.aborted) return;
      const began = performance.now();
      next = began + REDRAW;
      changed();
      const drawn = () => {
        const now = performance.now();
        next = Math.max(next, now + 3 * (now - began));
      };
      requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(drawn))); // the plot waits for a frame itself
    };
    const taken = (some: Answer) => {
      if (signal.aborted) return;
      take(some);
      timer ??= setTimeout(draw, Math.max(0, next - performance.now()));
    };
    return loadSeries(curves, window, signal, taken).then(
      () => {
        clearTimeout(timer);
        if (signal.aborted) return;
        end();
        setState({ loading: false, error: undefined });
        changed();
      },
      (error: unknown) => {
        if (signal.aborted || isAbort(error)) return;
        setState({ loading: false, error });
        if (passing(error)) setTimeout(() => !signal.aborted && setTurn((before) => before + 1), AGAIN);
      },
    );
  };

  useEffect(() => {
    if (width === 0 || curves.length === 0) return;
    const control = new AbortController();
    its.beginWhole();
    void load({ ...shared, width }, control.signal, (some) => its.takeWhole(some), endWhole);
    return () => control.abort();
  }, [identity, until, width, turn]);

  useEffect(() => {
    if (view === null || width === 0 || its.curves.size === 0 || its.isFine(view)) return;
    const control = new AbortController();
    // Half a width more on each side: a short pan, and the average at the left edge, need no request.
    const wide = zoom(view, 2, 0.5, xLog);
    const timer = setTimeout(() => {
      const window = { ...shared, from: wide[0], to: wide[1], width: Math.min(4096, 2 * width) };
      void load(window, control.signal, (some) => its.takeFine(some, wide));
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [identity, until, width, view?.[0], view?.[1], wholes]);

  useEffect(() => {
    if (rows === undefined || until !== undefined || width === 0) return;
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let next = -Infinity;
    let busy = false;
    let again = false;
    const byRow = typeof x === "string" && curves.every((each) => each.by === undefined && (each.section ?? "metrics") === "metrics");
    let all = typeof x !== "string"; // another metric as x pairs the rows of two names, which only the server has together
    const ask = async (): Promise<void> => {
      const asked = performance.now();
      next = asked + CATCH_UP.longest;
      const whole = all;
      all = typeof x !== "string";
      again = false;
      const answer = await loadSeries(curves, { ...shared, width, ...(whole ? {} : { since: { ...its.rowsSeen } }) }, control.signal);
      if (control.signal.aborted) return;
      if (whole) {
        its.beginWhole();
        its.takeWhole(answer);
        endWhole();
      } else {
        next = Math.min(next, asked + Math.max(CATCH_UP.least, CATCH_UP.times * (performance.now() - asked)));
        its.takeLater(answer);
      }
      changed();
    };
    const catchUp = () => {
      again = true;
      if (busy) return;
      busy = true;
      timer = setTimeout(() => {
        // After an error, the next rows ask again; the connection's state is shown by the header.
        void ask().catch(() => undefined).then(() => {
          busy = false;
          if (again && !control.signal.aborted) catchUp();
        });
      }, Math.max(0, next - performance.now()));
    };
    const unsubscribe = rows.subscribe((event) => {
      const mine = curves.some((each) => each.trial === event.trial);
      if (!mine || its.rowsSeen[event.trial] === undefined) return;
      const outcome = byRow ? its.takeRows(event, x as LiveX, started) : "behind";
      if (outcome === "grown") changed();
      if (outcome === "superseded") all = true;
      if ((outcome === "behind" || outcome === "superseded") && event.rows_seen > its.rowsSeen[event.trial]!) catchUp();
    });
    return () => {
      unsubscribe();
      clearTimeout(timer);
      control.abort();
    };
  }, [identity, rows, until, width, started]);

  return { growing: its, version, loading: state.loading, error: state.error, reload: () => setTurn((before) => before + 1) };
}
