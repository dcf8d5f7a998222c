// Content that is made when it comes near the window.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** A place of a given height whose content exists only while it is within half a window of the view. */
export function InView({ height, children }: { height: number; children: () => ComponentChildren }) {
  const element = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setNear(entries[entries.length - 1]!.isIntersecting), { rootMargin: "50% 0px" });
    observer.observe(element.current!);
    return () => observer.disconnect();
  }, []);
  return <div ref={element} class="in-view" style={{ minHeight: `${height}px` }}>{near && children()}</div>;
}
