/** The values at the crosshair, beside it. */

import { duration, short, utc, when } from "../format";
import type { Reading } from "./readings";
import { Swatch } from "./swatch";
import type { XKind } from "./types";

/** Curves that a readout lists at most: it stays lower than the chart. */
const MOST = 12;

export function Readout({ readings, xKind, xLabel, x }: { readings: readonly Reading[]; xKind: XKind; xLabel: string; x: number }) {
  const at = readings[0]?.x ?? x;
  return (
    <>
      <p class="at" title={xKind === "time" ? utc(at) : String(at)}>{xText(xKind, xLabel, at)}</p>
      <table>
        <tbody>
          {readings.slice(0, MOST).map((each, i) => (
            <tr key={each.key} class={i === 0 && Number.isFinite(each.distance) && each.distance < 24 ? "closest" : undefined}>
              <td><Swatch index={each.colour} width={16} /></td>
              <td class="name"><bdi>{each.label}</bdi></td>
              <td class="number">{short(each.smooth ?? each.y)}</td>
              {each.smooth !== null && <td class="number muted">{short(each.y)}</td>}
              {each.edges !== null && <td class="number muted">{short(each.edges[0])} – {short(each.edges[1])}</td>}
            </tr>
          ))}
        </tbody>
      </table>
      {readings.length > MOST && <p class="muted">and {readings.length - MOST} more</p>}
    </>
  );
}

/** A place on the horizontal axis as text. */
export function xText(kind: XKind, label: string, x: number): string {
  if (kind === "time") return when(x, Date.now(), true);
  if (kind === "relative") return duration(x);
  return `${label} ${Number.isInteger(x) ? x.toLocaleString("en-US").replaceAll(",", "\u202f") : short(x)}`;
}
