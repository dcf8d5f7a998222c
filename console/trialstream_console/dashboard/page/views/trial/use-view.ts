// The part of x that charts show, as part of the address.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Range } from "../../charts/types";
import { current, number, update, useParam } from "../../router";

/** A pan changes the range with each frame; browsers refuse more than a few changes of the address a second. */
const SETTLED = 300;

/** The range of x in view and a function to change it. All charts of a tab share it. */
export function useView(): [Range | null, (view: Range | null) => void] {
  const [from] = useParam("from", number(null));
  const [to] = useParam("to", number(null));
  const addressed: Range | null = from !== null && to !== null && from < to ? [from, to] : null;
  const [view, setView] = useState(addressed);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const { path } = current();
  // A link, or the back button.
  useEffect(() => setView(addressed), [from, to]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (next: Range | null) => {
    setView(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      if (current().path === path) update({ from: next?.[0] ?? null, to: next?.[1] ?? null }, { replace: true });
    }, SETTLED);
  };
  return [view, change];
}
