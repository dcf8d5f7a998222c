/**
 * A chart: curves and bands with axes, crosshair, legend and export.
 *
 * It shows what it is given. The part of x in view belongs to its parent, which keeps it in the address and loads what
 * it needs; curves.tsx of this folder is such a parent.
 */

import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { counted } from "../format";
import { download, downloadCsv, downloadJson, downloadPng } from "../exporting";
import { ExportMenu } from "../parts";
import { documentOf, tableOf } from "./export";
import { attachGestures } from "./gestures";
import { Legend } from "./legend";
import { pictureOf } from "./picture";
import { coloursOf, Plot, type Scene } from "./plot";
import { pan, placeOf, valueAt, wholeX, wholeY, zoom } from "./ranges";
import { blank, pixelY } from "./frame";
import { absence, notes } from "./notes";
import { readings } from "./readings";
import { Readout } from "./readout";
import { Summary } from "./summary";
import { svgOf } from "./svg";
import type { Band, Line, Range, XKind } from "./types";

export interface ChartProps {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly bands?: readonly Band[];
  readonly xKind: XKind;
  readonly xLabel: string;
  readonly xLog?: boolean;
  readonly yLog?: boolean;
  /** Time constant of the smoothing, in units of x; 0 for none. */
  readonly tau?: number;
  readonly height: number;
  /** The part of x that is shown; null for all. */
  readonly view: Range | null;
  readonly onView: (view: Range | null) => void;
  /** A chart in a grid: no legend, no export, smaller type. */
  readonly compact?: boolean;
  /** Called with the width of the plot, CSS pixels, when it is known or changes. */
  readonly onWidth?: (width: number) => void;
}

const NO_BANDS: readonly Band[] = [];

export function Chart(props: ChartProps) {
  const { title, lines, bands = NO_BANDS, xKind, xLabel, xLog = false, yLog = false, tau = 0, height, view, onView, compact = false } = props;
  const id = useId();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [named, setNamed] = useState<string | null>(null);
  const [cross, setCross] = useState<readonly [number, number | null] | null>(null);
  const [marked, setMarked] = useState<readonly [number, number] | null>(null);

  const shownLines = useMemo(() => lines.filter((each) => !hidden.has(each.key)), [lines, hidden]);
  const shownBands = useMemo(() => bands.filter((each) => !hidden.has(each.key)), [bands, hidden]);
  const all = useMemo(() => wholeX(lines, bands, xKind, xLog), [lines, bands, xKind, xLog]);
  const inView = (xLog && view && view[0] <= 0 ? null : view) ?? all;
  const x = inView ?? blank(xLog);
  const y = useMemo(() => inView && wholeY(shownLines, shownBands, inView, yLog), [shownLines, shownBands, inView?.[0], inView?.[1], yLog]);
  const absent = y === null ? absence([...shownLines, ...shownBands], inView, view === null, yLog) : null;
  const log = xLog && x[0] > 0;

  const frame = plot.current?.frame;
  const values = cross && frame && plot.current
    ? readings(frame, shownLines, shownBands, valueAt(x, cross[0], log), cross[1] === null ? null : frame.top + cross[1] * frame.height, (line) => plot.current!.smoothed(line))
    : [];
  const closest = values[0] && values[0].distance < 24 ? values[0] : undefined;
  const focus = named ?? (shownLines.length + shownBands.length > 1 ? (closest?.key ?? null) : null);
  const scene: Scene = { lines: shownLines, bands: shownBands, x: inView, y, xKind, xLog: log, yLog, tau, focus };

  const limited = (next: Range): Range | null => {
    if (!all) return null;
    const inside: Range = [Math.max(all[0], next[0]), Math.min(all[1], next[1])];
    return inside[0] <= all[0] && inside[1] >= all[1] ? null : inside[0] < inside[1] ? inside : view;
  };
  const panned = (share: number): Range | null => {
    const next = pan(x, share, log);
    return all && view && next[0] >= all[0] - (next[1] - next[0]) / 2 && next[1] <= all[1] + (next[1] - next[0]) / 2 ? next : view;
  };

  // The gestures are attached once and call what the latest rendering has.
  const latest = useRef({ x, all, log, view, panned, limited, onView, setCross, setMarked });
  latest.current = { x, all, log, view, panned, limited, onView, setCross, setMarked };

  useLayoutEffect(() => {
    const element = host.current!;
    const made = new Plot(element, scene, element.clientWidth || 300, height, compact);
    plot.current = made;
    const now = () => latest.current;
    const detach = attachGestures(made.over, {
      select: (range, done) => {
        now().setMarked(done ? null : range);
        if (done && range && now().all) now().onView([valueAt(now().x, range[0], now().log), valueAt(now().x, range[1], now().log)]);
      },
      pan: (share) => now().onView(now().panned(-share)),
      zoom: (factor, at) => now().onView(now().limited(zoom(now().x, factor, at, now().log))),
      whole: () => now().onView(null),
      hover: (place) => now().setCross(place),
      takesWheel: () => element.contains(document.activeElement),
    });
    const observer = new ResizeObserver(() => {
      if (element.clientWidth === 0) return;
      made.resize(element.clientWidth, height);
      props.onWidth?.(made.over.offsetWidth);
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      detach();
      made.destroy();
    };
  }, [compact, height]);

  useEffect(() => plot.current?.update(scene), [shownLines, shownBands, inView?.[0], inView?.[1], y?.[0], y?.[1], xKind, log, yLog, tau, focus]);

  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (arrow !== 0 && event.shiftKey) setCross([Math.min(1, Math.max(0, (cross?.[0] ?? 0.5) + arrow * 0.02)), null]);
    else if (arrow !== 0) onView(panned(arrow * 0.2));
    else if (event.key === "+" || event.key === "=" || event.key === "ArrowUp") onView(limited(zoom(x, 0.6, cross?.[0] ?? 0.5, log)));
    else if (event.key === "-" || event.key === "ArrowDown") onView(limited(zoom(x, 1 / 0.6, cross?.[0] ?? 0.5, log)));
    else if (event.key === "0" || event.key === "Home") onView(null);
    else if (event.key === "Escape" && cross) setCross(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const picture = () => pictureOf(plot.current!.canvas, title, [...shownLines, ...shownBands], coloursOf(host.current!), devicePixelRatio);
  const svg = () => {
    const { paper, text, muted, grid, bad, curves } = coloursOf(host.current!);
    const figure = { title, xLabel, xKind, lines: shownLines, bands: shownBands, x: inView, y, xLog: log, yLog, tau };
    return svgOf(figure, { paper, ink: text, muted, grid, bad, curves });
  };
  const at = cross && { left: `${cross[0] * 100}%` };
  const dot = cross && closest && frame && { x: placeOf(x, closest.x, log), y: (pixelY(frame, closest.smooth ?? closest.y) - frame.top) / frame.height };

  return (
    <figure class={compact ? "chart compact" : "chart"}>
      <div
        class="plot"
        ref={host}
        tabIndex={0}
        role="group"
        aria-roledescription="chart"
        aria-label={`${title} by ${xLabel}, ${counted(lines.length + bands.length, "curve")}. Arrows move, plus and minus zoom, 0 shows all, Shift and arrows move the crosshair.`}
        onKeyDown={keys}
        onBlur={() => setCross(null)}
      >
        {frame && (
          <div class="over" aria-hidden="true" style={{ left: `${frame.left}px`, top: `${frame.top}px`, width: `${frame.width}px`, height: `${frame.height}px` }}>
            {marked && <span class="marked" style={{ left: `${marked[0] * 100}%`, width: `${(marked[1] - marked[0]) * 100}%` }} />}
            {at && <span class="cross" style={at} />}
            {dot && dot.x >= 0 && dot.x <= 1 && <span class="dot" style={{ left: `${dot.x * 100}%`, top: `${dot.y * 100}%` }} />}
            {cross && values.length > 0 && !marked && (
              <div class={cross[0] > 0.5 ? "readout left" : "readout"} style={at ?? undefined}>
                <Readout readings={values} xKind={xKind} xLabel={xLabel} x={valueAt(x, cross[0], log)} />
              </div>
            )}
          </div>
        )}
        {absent && <div class="veil"><p class="muted">{absent}</p></div>}
      </div>
      <p class="sr" aria-live="polite">
        {cross && cross[1] === null ? values.slice(0, 4).map((each) => `${each.label}: ${each.smooth ?? each.y}`).join("; ") : ""}
      </p>
      {!compact && (
        <div class="below">
          <Legend lines={lines} bands={bands} hidden={hidden} onHidden={setHidden} focus={focus} onFocus={setNamed} />
          <p class="muted notes">{notes(lines, bands, xKind, yLog)}</p>
          <div class="acts">
            <button type="button" disabled={view === null} onClick={() => onView(null)} title="Double click or 0">Whole</button>
            <ExportMenu
              of="the chart"
              formats={{
                CSV: () => downloadCsv(title, tableOf(shownLines, shownBands, xLabel)),
                JSON: () => downloadJson(title, documentOf(shownLines, shownBands, xLabel)),
                PNG: () => downloadPng(title, picture()),
                SVG: () => download(`${title}.svg`, svg(), "image/svg+xml"),
              }}
            />
          </div>
        </div>
      )}
      <Summary id={`${id}-table`} title={title} lines={lines} bands={bands} />
    </figure>
  );
}
