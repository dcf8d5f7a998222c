/** The legend of a chart: a button for each curve that shows or hides it. */

import { cut, short } from "../format";
import { Swatch } from "./swatch";
import type { Band, Line } from "./types";

/** Curves that a legend lists at most; the others are in the chart and in its table. */
const MOST = 60;

export interface LegendProps {
  readonly lines: readonly Line[];
  readonly bands: readonly Band[];
  readonly hidden: ReadonlySet<string>;
  readonly onHidden: (hidden: ReadonlySet<string>) => void;
  readonly focus: string | null;
  readonly onFocus: (key: string | null) => void;
}

export function Legend({ lines, bands, hidden, onHidden, focus, onFocus }: LegendProps) {
  const entries: (Line | Band)[] = [...lines, ...bands];
  const toggle = (key: string, alone: boolean) => {
    const others = entries.map((each) => each.key).filter((each) => each !== key);
    const isAlone = !hidden.has(key) && others.every((each) => hidden.has(each));
    if (alone) return onHidden(new Set(isAlone ? [] : others));
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    onHidden(next);
  };
  return (
    <ul class="legend" aria-label="Curves">
      {entries.slice(0, MOST).map((entry) => (
        <li key={entry.key}>
          <button
            type="button"
            class={entry.key === focus ? "plain focused" : "plain"}
            aria-pressed={!hidden.has(entry.key)}
            title={`${cut(entry.label, 500)}\nClick: show or hide. Shift-click: this curve alone.`}
            onClick={(event) => toggle(entry.key, event.shiftKey)}
            onMouseEnter={() => onFocus(entry.key)}
            onMouseLeave={() => onFocus(null)}
            onFocus={() => onFocus(entry.key)}
            onBlur={() => onFocus(null)}
          >
            <Swatch index={entry.colour} />
            <bdi>{cut(entry.label, 60)}</bdi>
            <span class="last">{last(entry)}</span>
          </button>
        </li>
      ))}
      {entries.length > MOST && <li class="muted">and {entries.length - MOST} more</li>}
    </ul>
  );
}

function last(entry: Line | Band): string {
  const y = "mid" in entry ? entry.mid : entry.y;
  return y.length > 0 ? short(y[y.length - 1]!) : "–";
}
