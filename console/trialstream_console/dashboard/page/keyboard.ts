// Shortcuts: views announce theirs, the help lists them all.
import { useEffect, useRef } from "preact/hooks";

export interface Shortcut {
  /** A key as `KeyboardEvent.key` has it, or two in a row: "g p". */
  keys: string;
  does: string;
  action: (event: KeyboardEvent) => void;
}

const active = new Set<{ current: readonly Shortcut[] }>();
let first = "";
let firstAt = 0;
const PAIR = 1200; // between the keys of a pair, milliseconds

/** All shortcuts of what is shown now. */
export function shortcuts(): Shortcut[] {
  return [...active].flatMap((each) => each.current);
}

/** Shortcuts, as long as the component is shown. */
export function useShortcuts(mine: readonly Shortcut[]): void {
  const latest = useRef(mine);
  latest.current = mine;
  useEffect(() => {
    active.add(latest);
    return () => void active.delete(latest);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export function startShortcuts(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const pair = event.timeStamp - firstAt < PAIR ? `${first} ${event.key}` : "";
    const all = shortcuts().reverse(); // the view's own come before the page's
    const hit = all.find((each) => each.keys === pair) ?? all.find((each) => each.keys === event.key);
    first = event.key;
    firstAt = event.timeStamp;
    if (!hit) return;
    first = "";
    event.preventDefault();
    hit.action(event);
  });
}
