// The edge of a column: dragged by a pointer, or moved by the arrow keys.
import { useRef } from "preact/hooks";
import type { HTMLAttributes } from "preact";

const STEP = 16;

export function useResize(width: number, onWidth: (width: number) => void): HTMLAttributes<HTMLSpanElement> {
  const drag = useRef<{ x: number; width: number } | null>(null);
  return {
    role: "separator",
    tabIndex: 0,
    "aria-orientation": "vertical",
    "aria-valuenow": width,
    "aria-valuemin": 48,
    "aria-valuemax": 900,
    onPointerDown: (event) => {
      event.preventDefault();
      event.currentTarget.setPointerCapture(event.pointerId);
      drag.current = { x: event.clientX, width };
    },
    onPointerMove: (event) => {
      if (drag.current) onWidth(drag.current.width + event.clientX - drag.current.x);
    },
    onPointerUp: () => {
      drag.current = null;
    },
    onPointerCancel: () => {
      drag.current = null;
    },
    onKeyDown: (event) => {
      const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
      if (by === undefined || event.altKey) return;
      event.preventDefault();
      onWidth(width + by);
    },
  };
}
