// The rows of a table, loaded in windows of 200 as they come into view; loaded again when trials change.
import { useCallback, useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import { get, isAbort, type StatusInfo, type TrialTable, type Value } from "../api";
import { passing } from "../states";
import { WINDOW, windowAddress, type Question } from "./question";

const KEPT = 30; // windows

export interface Row {
  uid: string;
  name: string;
  status: StatusInfo;
}

interface Page { table: TrialTable; stale: boolean }

class Store {
  pages = new Map<number, Page>();
  loading = new Map<number, AbortController>();
  total: number | undefined;
  cursor: string | undefined;
  error: unknown;
  /** The columns of what is shown; those of the question, once a window of it is there. */
  columns: readonly string[] = [];
}

export interface Rows {
  /** Undefined until the first window is there. */
  total: number | undefined;
  /** Place of the first answer in the changes, for `useLive`. */
  cursor: string | undefined;
  error: unknown;
  loading: boolean;
  row(index: number): Row | undefined;
  value(index: number, path: string): Value | undefined;
  /** Load what is missing or stale among these rows. */
  show(first: number, count: number): void;
  /** Trials have changed: what is in view is loaded again. */
  changed(): void;
  reload(): void;
}

/** The rows of a question. The rows of the question before stay until the first window of this one is there. */
export function useRows(question: Question): Rows {
  const key = JSON.stringify(question);
  const store = useRef(new Store());
  const [version, bump] = useReducer((before: number) => before + 1, 0);
  const view = useRef({ first: 0, count: 50 });
  const current = useRef({ key, question });
  current.current = { key, question };
  const fresh = useRef("");
  const retry = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  const load = useCallback((window: number): void => {
    const { pages, loading } = store.current;
    const known = pages.get(window);
    if (loading.has(window) || (known && !known.stale && fresh.current === current.current.key)) return;
    const control = new AbortController();
    loading.set(window, control);
    const { key: asked, question: its } = current.current;
    get<TrialTable>(windowAddress(its, window), {}, control.signal).then(
      (table) => {
        if (control.signal.aborted) return;
        loading.delete(window);
        if (fresh.current !== asked) {
          fresh.current = asked;
          pages.clear();
          store.current.cursor = table.cursor;
          store.current.columns = its.columns;
        }
        store.current.error = undefined;
        store.current.total = table.total;
        pages.delete(window);
        pages.set(window, { table, stale: false });
        for (const oldest of pages.keys()) {
          if (pages.size <= KEPT) break;
          pages.delete(oldest);
        }
        bump(0);
      },
      (error: unknown) => {
        if (control.signal.aborted || isAbort(error)) return;
        loading.delete(window);
        store.current.error = error;
        if (passing(error)) retry.current = setTimeout(show, 3000);
        bump(0);
      },
    );
    bump(0);
  }, []);

  const show = useCallback((): void => {
    const { first, count } = view.current;
    const from = Math.floor(Math.max(0, first) / WINDOW);
    const to = Math.floor(Math.max(0, first + count - 1) / WINDOW);
    for (const [window, control] of store.current.loading) {
      if (window < from || window > to) {
        control.abort();
        store.current.loading.delete(window);
      }
    }
    for (let window = from; window <= to; window++) load(window);
  }, []);

  const stale = useCallback((): void => {
    const { first, count } = view.current;
    for (const [window, page] of store.current.pages) {
      page.stale = true;
      if (window * WINDOW > first + count || (window + 1) * WINDOW <= first) store.current.pages.delete(window);
    }
    show();
  }, []);

  useEffect(() => {
    for (const control of store.current.loading.values()) control.abort();
    store.current.loading.clear();
    clearTimeout(retry.current);
    store.current.error = undefined;
    view.current = { first: 0, count: 50 };
    show();
  }, [key]);
  useEffect(() => () => {
    for (const control of store.current.loading.values()) control.abort();
    clearTimeout(retry.current);
  }, []);

  return useMemo(() => {
    const { pages, columns } = store.current;
    const places = new Map(columns.map((path, index) => [path, index]));
    const at = (index: number): [TrialTable, number] | undefined => {
      const page = pages.get(Math.floor(index / WINDOW));
      const row = index % WINDOW;
      return page && row < page.table.uids.length ? [page.table, row] : undefined;
    };
    return {
      total: store.current.total,
      cursor: store.current.cursor,
      error: store.current.error,
      loading: store.current.loading.size > 0,
      row(index) {
        const found = at(index);
        if (!found) return undefined;
        const [table, row] = found;
        return { uid: table.uids[row]!, name: table.names[row]!, status: table.statuses[row]! };
      },
      value(index, path) {
        const found = at(index);
        const place = places.get(path);
        return found && place !== undefined ? found[0].values[place]?.[found[1]] : undefined;
      },
      show(first, count) {
        view.current = { first, count };
        show();
      },
      changed: stale,
      reload: stale,
    };
  }, [version, key]);
}
