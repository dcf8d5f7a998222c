/**
 * Gestures on a plot: drag to zoom, Shift or the middle button to pan, the wheel for both, two fingers, double click.
 *
 * Places are shares of the plot's width and height, 0 at the left and at the top.
 */

export interface Gestures {
  /** The range between two places is marked; `done` when the button is released, null when the drag is given up. */
  select(range: readonly [number, number] | null, done: boolean): void;
  /** The content moves by a share of the width. */
  pan(share: number): void;
  /** The range becomes larger or smaller around a place. */
  zoom(factor: number, at: number): void;
  /** Everything is shown. */
  whole(): void;
  /** The pointer is at a place, or has left. */
  hover(place: readonly [x: number, y: number] | null): void;
  /** Whether the wheel belongs to the plot; otherwise it scrolls the page. */
  takesWheel(): boolean;
}

/** The least width of a drag that zooms, CSS pixels: less is a click with an unsteady hand. */
const LEAST_DRAG = 4;

interface Drag {
  readonly id: number;
  readonly pans: boolean;
  readonly start: number;
  last: number;
}

/** Attach gestures to an element. Returns the function that detaches them. */
export function attachGestures(element: HTMLElement, on: Gestures): () => void {
  const control = new AbortController();
  const options = { signal: control.signal };
  const touches = new Map<number, number>();
  let drag: Drag | null = null;

  const place = (event: PointerEvent | WheelEvent | MouseEvent): [number, number] => {
    const box = element.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const inside = (share: number) => Math.min(1, Math.max(0, share));

  element.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    const [x, y] = place(event);
    const touch = event.pointerType === "touch";
    if (touch) touches.set(event.pointerId, x);
    drag = touches.size > 1 ? null : { id: event.pointerId, pans: touch || event.shiftKey || event.button === 1, start: x, last: x };
    element.setPointerCapture(event.pointerId);
    on.hover([x, y]);
    // The middle button would start the browser's own scrolling.
    if (event.button === 1) event.preventDefault();
  }, options);

  element.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (touches.size === 2 && touches.has(event.pointerId)) return pinch(event.pointerId, x);
    if (drag?.id !== event.pointerId) return on.hover([x, y]);
    on.hover([inside(x), y]);
    if (drag.pans) {
      on.pan(x - drag.last);
      drag.last = x;
    } else {
      on.select(ordered(inside(drag.start), inside(x)), false);
    }
  }, options);

  const end = (event: PointerEvent) => {
    touches.delete(event.pointerId);
    if (drag?.id !== event.pointerId) return;
    const finished = drag;
    drag = null;
    if (finished.pans) return;
    const [x] = place(event);
    const wide = Math.abs(x - finished.start) * element.clientWidth >= LEAST_DRAG;
    on.select(wide && event.type === "pointerup" ? ordered(inside(finished.start), inside(x)) : null, true);
  };
  element.addEventListener("pointerup", end, options);
  element.addEventListener("pointercancel", end, options);
  element.addEventListener("pointerleave", (event) => drag === null && event.pointerType !== "touch" && on.hover(null), options);
  element.addEventListener("dblclick", () => on.whole(), options);

  element.addEventListener("wheel", (event) => {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!sideways && !event.ctrlKey && !on.takesWheel()) return;
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    if (sideways) on.pan((-(event.deltaX || event.deltaY) * unit) / element.clientWidth);
    else on.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY * unit * 0.002))), inside(place(event)[0]));
  }, { ...options, passive: false });

  function pinch(id: number, x: number): void {
    const before = touches.get(id)!;
    const other = [...touches].find(([each]) => each !== id)![1];
    touches.set(id, x);
    const old = Math.abs(before - other);
    const now = Math.abs(x - other);
    if (old > 0.02 && now > 0.02) on.zoom(old / now, inside(other));
  }

  return () => control.abort();
}

function ordered(a: number, b: number): [number, number] {
  return a < b ? [a, b] : [b, a];
}
