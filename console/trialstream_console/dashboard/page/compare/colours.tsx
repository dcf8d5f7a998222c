// Colours of trials by a value: a blend from low to high, or one colour and shape for each category; and their legend.
import { useEffect, useMemo, useState } from "preact/hooks";
import { brief } from "../format";
import type { Value } from "../shapes";
import { heading } from "../table/paths";
import { blend, scaleOf, type Scale } from "./scale";

export interface Colouring {
  scale: Scale;
  of(value: Value | undefined): string;
  /** 0 to 3: a circle, square, triangle or diamond. */
  shape(value: Value | undefined): number;
}

/** The palette of the theme, read again when the system changes between light and dark. */
function usePalette(): string[] {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const listen = (): void => setTurn((before) => before + 1);
    dark.addEventListener("change", listen);
    return () => dark.removeEventListener("change", listen);
  }, []);
  return useMemo(() => {
    const style = getComputedStyle(document.documentElement);
    return [...Array.from({ length: 8 }, (_, index) => `--s${index}`), "--line-strong"].map((each) => style.getPropertyValue(each).trim());
  }, [turn]);
}

export function useColouring(values: readonly (Value | undefined)[]): Colouring {
  const palette = usePalette();
  return useMemo(() => {
    const scale = scaleOf(values);
    const none = palette[8]!;
    return {
      scale,
      of(value) {
        if (scale.kind === "empty") return palette[0]!;
        const category = scale.category(value);
        if (category !== null) return palette[category % 8]!;
        const place = scale.place(value);
        return place === null ? none : blend(palette[0]!, palette[5]!, place);
      },
      shape: (value) => (scale.category(value) ?? 0) % 4,
    };
  }, [values, palette]);
}

/** Shapes around 0, 0, of about the same area. */
export const SHAPES = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
  "M-3.5-3.5H3.5V3.5H-3.5Z",
  "M0-4.6L4.4 3.4H-4.4Z",
  "M0-5L5 0L0 5L-5 0Z",
] as const;

export function ColourLegend({ path, colouring, values }: { path: string; colouring: Colouring; values: readonly (Value | undefined)[] }) {
  const { scale } = colouring;
  const { label, over } = heading(path);
  if (scale.kind === "empty") return null;
  if (scale.kind === "category") {
    const seen = new Map<number, Value>();
    for (const each of values) {
      const category = scale.category(each);
      if (category !== null && each !== undefined && !seen.has(category)) seen.set(category, each);
    }
    return (
      <p class="colour-legend"><span class="muted"><bdi>{brief(label, 40)}</bdi></span>
        {[...seen].sort(([a], [b]) => a - b).map(([category, value]) => (
          <span key={category}>
            <svg viewBox="-6 -6 12 12" width="12" height="12" aria-hidden="true"><path d={SHAPES[category % 4]} fill={colouring.of(value)} /></svg>
            <bdi>{brief(value, 24)}</bdi>
          </span>
        ))}
      </p>
    );
  }
  const stops = [0, 0.25, 0.5, 0.75, 1];
  const ends = [...values].filter((each) => scale.place(each) !== null).sort((a, b) => scale.place(a)! - scale.place(b)!);
  return (
    <p class="colour-legend">
      <span class="muted"><bdi>{brief(label, 40)}</bdi> {over}</span>
      <span>{brief(ends[0])}</span>
      <span class="ramp" aria-hidden="true">{stops.map((each) => <i key={each} style={{ background: colouring.of(ends[Math.round(each * (ends.length - 1))]) }} />)}</span>
      <span>{brief(ends.at(-1))}</span>
    </p>
  );
}
