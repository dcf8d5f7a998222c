// Hooks that load: an answer by its key, and loading again what has changed.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { isAbort } from "./api";
import { passing } from "./states";

export interface Fetched<T> {
  /** The latest answer; it stays while another is being loaded, until the key changes. */
  data: T | undefined;
  /** The error of the latest try; undefined after a good one. */
  error: unknown;
  loading: boolean;
  reload: () => void;
}

const AGAIN = 3000; // between tries while a server is away, milliseconds

/**
 * The answer of `load`, loaded again when the key changes (null: nothing to load) or `reload` is called. The answer of an
 * earlier key never replaces that of a later one. `keep`: data of the key before stays until the new answer is there.
 */
export function useFetched<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  options: { keep?: boolean } = {},
): Fetched<T> {
  const [state, setState] = useState<{ key: string | null; data?: T; error?: unknown; loading: boolean }>({ key, loading: key !== null });
  const [turn, setTurn] = useState(0);
  const loader = useRef(load);
  loader.current = load;

  useEffect(() => {
    if (key === null) return setState({ key, loading: false });
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    setState((before) => (before.key === key || options.keep ? { ...before, loading: true } : { key, loading: true }));
    loader.current(control.signal).then(
      (data) => !control.signal.aborted && setState({ key, data, loading: false }),
      (error: unknown) => {
        if (control.signal.aborted || isAbort(error)) return;
        setState((before) => ({ key, data: before.key === key || options.keep ? before.data : undefined, error, loading: false }));
        if (passing(error)) timer = setTimeout(() => setTurn((before) => before + 1), AGAIN);
      },
    );
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [key, turn]);

  const fresh = state.key === key || options.keep;
  return {
    data: fresh ? state.data : undefined,
    error: fresh ? state.error : undefined,
    loading: state.loading || !fresh,
    reload: useCallback(() => setTurn((before) => before + 1), []),
  };
}

/** Call `action` at most once every `milliseconds`, the last call included. */
export function useThrottled(action: () => void, milliseconds: number): () => void {
  const state = useRef<{ timer?: ReturnType<typeof setTimeout>; last: number }>({ last: 0 });
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return useCallback(() => {
    const { timer, last } = state.current;
    if (timer !== undefined) return;
    const run = (): void => {
      state.current = { last: performance.now() };
      latest.current();
    };
    state.current.timer = setTimeout(run, Math.max(0, last + milliseconds - performance.now()));
  }, [milliseconds]);
}
