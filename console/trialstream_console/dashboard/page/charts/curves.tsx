/** A chart that loads its curves: whole at first, exact on zoom, growing while their trials run. */

import { useMemo, useRef, useState } from "preact/hooks";
import { cut } from "../format";
import { ErrorState, Loading, Stale } from "../states";
import { bandOf } from "./bands";
import { Chart } from "./chart";
import { keyOf } from "./growing";
import { Looks } from "./palette";
import type { CurveRequest, Loaded, Window } from "./series";
import type { Line, Range, XKind } from "./types";
import { useSeries, type RowsSource } from "./use-series";

/** A curve to show. Without a label it has the name of its metric. */
export interface Curve extends CurveRequest {
  readonly label?: string;
}

export interface CurvesProps {
  readonly title: string;
  readonly curves: readonly Curve[];
  readonly x: Window["x"];
  readonly xLog?: boolean;
  readonly yLog?: boolean;
  /** Time constant of the smoothing, in units of x; 0 for none. */
  readonly tau?: number;
  readonly height: number;
  readonly view: Range | null;
  readonly onView: (view: Range | null) => void;
  readonly compact?: boolean;
  /** Rows of earlier attempts too. */
  readonly attempts?: boolean;
  /** Rows up to this time only, microseconds: time travel. */
  readonly until?: number | undefined;
  readonly rows?: RowsSource | undefined;
  /** The zero of relative time, microseconds. */
  readonly started: number;
  /** Show ranks as one band, from the least to the greatest, with their mean. */
  readonly band?: boolean;
}

/** Places of a band: finer than a screen is wide. */
const BAND_PLACES = 800;

export function Curves(props: CurvesProps) {
  const { title, curves, x, xLog = false, view, until, rows, started, attempts = false, band = false } = props;
  const [width, setWidth] = useState(0);
  const looks = useRef(new Looks());
  const requests = useMemo(() => curves.map(({ trial, name, section, by }) => ({ trial, name, ...(section && { section }), ...(by && { by }) })), [curves]);
  const series = useSeries(requests, { x, view, width, xLog, attempts, until, rows, started });
  const labels = useMemo(() => new Map(curves.map((each) => [keyOf(each), each.label ?? each.name])), [curves]);
  const many = new Set(curves.map((each) => each.trial)).size > 1 || curves.length > 1;
  const lines = useMemo(() => {
    for (const curve of curves) if (!curve.by) looks.current.of(keyOf(curve));
    const places = new Map(curves.map(({ trial, name }, place) => [keyOf({ trial, name }), place]));
    const place = ({ loaded: { trial, name } }: { loaded: Loaded }) => places.get(keyOf({ trial, name })) ?? places.size;
    const inOrder = [...series.growing.curves.entries()].sort(([, a], [, b]) => place(a) - place(b));
    return inOrder.map(([key, curve]): Line => {
      const { trial, name, group, textSteps } = curve.loaded;
      const label = labels.get(keyOf({ trial, name })) ?? name;
      return {
        ...series.growing.points(curve, view),
        key,
        label: group === undefined ? label : many ? `${label} · ${group}` : curves[0]?.by === "rank" ? `rank ${group}` : group,
        colour: looks.current.of(key),
        textSteps,
      };
    });
  }, [series.growing, series.version, labels, view?.[0], view?.[1]]);
  const bands = useMemo(() => (band && lines.length > 0 ? [bandOf(lines, "ranks", `${cut(title, 60)}: ranks`, 0, BAND_PLACES)] : []), [band, lines]);
  const xKind: XKind = typeof x === "string" ? x : "value";
  const first = series.loading && series.growing.curves.size === 0;
  const empty = !series.loading && !series.error && lines.every((each) => each.x.length === 0 && each.marks.x.length === 0);

  return (
    <div class="curves" aria-busy={series.loading}>
      {series.error !== undefined && (lines.length > 0
        ? <Stale error={series.error} retry={series.reload} />
        : <ErrorState error={series.error} retry={series.reload} />)}
      <Chart
        title={title}
        lines={band ? [] : lines}
        bands={bands}
        xKind={xKind}
        xLabel={typeof x === "string" ? X_LABELS[x] : x.metric}
        xLog={xLog}
        yLog={props.yLog ?? false}
        tau={props.tau ?? 0}
        height={props.height}
        view={view}
        onView={props.onView}
        compact={props.compact ?? false}
        onWidth={setWidth}
      />
      {first && <div class="veil"><Loading /></div>}
      {empty && <div class="veil"><p class="muted">{until === undefined ? "No rows" : "No rows yet at this time"}</p></div>}
    </div>
  );
}

export const X_LABELS = { step: "step", time: "time", relative: "time since the start" } as const;
