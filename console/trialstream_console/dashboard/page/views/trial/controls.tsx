// The controls of charts: the axis, scales, smoothing. Their state is in the address.
import { constants } from "../../charts/ema";
import type { Window } from "../../charts/series";
import { duration, short } from "../../format";
import { flag, number, text, update, useParam } from "../../router";

export interface Look {
  x: Window["x"];
  xLog: boolean;
  yLog: boolean;
  tau: number;
  attempts: boolean;
}

/** What the controls are set to. */
export function useLook(): Look {
  const [x] = useParam("x", text("step"));
  const [xLog] = useParam("xlog", flag);
  const [yLog] = useParam("ylog", flag);
  const [tau] = useParam("smooth", number(0));
  const [attempts] = useParam("attempts", flag);
  const kind = x === "time" || x === "relative" || x === "step" ? x : { metric: x };
  return { x: kind, xLog: xLog && kind !== "time", yLog, tau: Math.max(0, tau), attempts };
}

/**
 * The row of controls.
 *
 * @param length the extent of x, in its unit: the smoothing is chosen within it
 */
export function Controls({ look, length, metrics, manyAttempts }: { look: Look; length: number; metrics: readonly string[]; manyAttempts: boolean }) {
  const { x, xLog, yLog, tau, attempts } = look;
  const value = typeof x === "string" ? x : x.metric;
  const choices = constants(x === "time" ? length * 1e6 : length);
  const at = choices.findIndex((each) => each >= tau);
  const place = at < 0 ? choices.length - 1 : at;
  const others = metrics.slice(0, 200);
  return (
    <div class="controls" role="group" aria-label="Axes and smoothing">
      <label>
        x
        <select value={value} onChange={(event) => update({ x: event.currentTarget.value === "step" ? null : event.currentTarget.value, from: null, to: null, smooth: null })}>
          <option value="step">step</option>
          <option value="relative">time since the start</option>
          <option value="time">time</option>
          {others.length > 0 && <optgroup label="another metric">{others.map((each) => <option key={each} value={each}>{each.slice(0, 80)}</option>)}</optgroup>}
        </select>
      </label>
      <span class="segments">
        <button type="button" aria-pressed={xLog} disabled={x === "time"} onClick={() => update({ xlog: !xLog, from: null, to: null })}>log x</button>
        <button type="button" aria-pressed={yLog} onClick={() => update({ ylog: !yLog })}>log y</button>
      </span>
      <label title="Exponential moving average over x; the raw line stays behind it">
        smoothing
        <input
          type="range" min="0" max={choices.length - 1} step="1" value={place} disabled={choices.length < 2 || typeof x !== "string"}
          aria-valuetext={tau === 0 ? "none" : amount(tau, x)}
          onInput={(event) => update({ smooth: choices[Number(event.currentTarget.value)] || null }, { replace: true })}
        />
        <output class="amount">{tau === 0 ? "none" : amount(tau, x)}</output>
      </label>
      {manyAttempts && (
        <label><input type="checkbox" checked={attempts} onChange={() => update({ attempts: !attempts })} /> rows of earlier attempts</label>
      )}
    </div>
  );
}

function amount(tau: number, x: Window["x"]): string {
  if (x === "time") return duration(tau / 1e6);
  return x === "relative" ? duration(tau) : `${short(tau)} steps`;
}
