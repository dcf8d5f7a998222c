// The address of the page is its state: the path names the view, the query string holds all that a person has chosen.
import { useEffect, useMemo, useState } from "preact/hooks";
import { append, type Params } from "./address";

export { link, type Params } from "./address";

export interface Place {
  path: string;
  query: URLSearchParams;
}

function read(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

let place: Place | undefined;
const listeners = new Set<() => void>();

function changed(): void {
  place = read();
  for (const each of [...listeners]) each();
}

/** The place that is shown now. */
export function current(): Place {
  place ??= read();
  return place;
}

/** Follow the back and forward buttons, and links of the page without loading it anew. */
export function startRouter(): void {
  addEventListener("popstate", changed);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || !isView(url.pathname)) return;
    event.preventDefault();
    if (url.hash && url.pathname === location.pathname) document.getElementById(url.hash.slice(1))?.focus();
    else go(url.pathname + url.search);
  });
}

function isView(path: string): boolean {
  return path === "/" || /^\/(projects|groups|trials|compare|operations)(\/|$)/.test(path);
}

/** Show another place; `replace` keeps the number of steps of the back button. */
export function go(url: string, options: { replace?: boolean } = {}): void {
  if (url === location.pathname + location.search) return;
  const before = location.pathname;
  if (options.replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  changed();
  if (before !== location.pathname) scrollTo(0, 0);
}

/** Change some parameters of the present place and keep the others. */
export function update(params: Params, options: { replace?: boolean } = {}): void {
  const query = new URLSearchParams(current().query);
  for (const [name, value] of Object.entries(params)) {
    query.delete(name);
    append(query, name, value);
  }
  const text = query.toString();
  go(text ? `${current().path}?${text}` : current().path, options);
}

/** The place, and a new rendering whenever it changes. */
export function usePlace(): Place {
  const [now, setNow] = useState(current);
  useEffect(() => {
    const listen = (): void => setNow(current());
    listeners.add(listen);
    listen();
    return () => void listeners.delete(listen);
  }, []);
  return now;
}

/** How a value stands in the query string: a list of texts, empty for the default. */
export interface Kind<T> {
  read(texts: string[]): T;
  write(value: T): string[];
}

export function text(fallback = ""): Kind<string> {
  return { read: (texts) => texts[0] ?? fallback, write: (value) => (value === fallback ? [] : [value]) };
}

export function choice<T extends string>(options: readonly T[], fallback: T): Kind<T> {
  return {
    read: (texts) => options.find((each) => each === texts[0]) ?? fallback,
    write: (value) => (value === fallback ? [] : [value]),
  };
}

export function number<F extends number | null>(fallback: F): Kind<number | F> {
  return {
    read: (texts) => {
      const value = texts[0] === undefined || texts[0] === "" ? NaN : Number(texts[0]);
      return Number.isFinite(value) ? value : fallback;
    },
    write: (value) => (value === fallback || value === null ? [] : [String(value)]),
  };
}

export const flag: Kind<boolean> = { read: (texts) => texts[0] === "1", write: (value) => (value ? ["1"] : []) };

export const list: Kind<string[]> = { read: (texts) => texts, write: (value) => value };

/** A parameter of the query string as state. `replace: true` for what changes in small steps, such as a slider. */
export function useParam<T>(name: string, kind: Kind<T>): [T, (value: T, options?: { replace?: boolean }) => void] {
  const { query } = usePlace();
  const texts = query.getAll(name);
  const value = useMemo(() => kind.read(texts), [texts.join("\u0000"), texts.length]);
  return [value, (next, options) => update({ [name]: kind.write(next) }, options)];
}
