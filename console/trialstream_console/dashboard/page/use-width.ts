// The width of an element, kept up to date.
import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

export function useWidth<T extends Element>(): [RefObject<T | null>, number] {
  const element = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const its = element.current;
    if (!its) return;
    const observer = new ResizeObserver(() => setWidth(its.clientWidth));
    observer.observe(its);
    setWidth(its.clientWidth);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}
