// A point for each trial: any two columns, coloured by a third.
import { useMemo, useRef, useState } from "preact/hooks";
import { brief, count, counted, cut } from "../format";
import { ExportMenu } from "../parts";
import { go, link, text, update, useParam } from "../router";
import type { TrialTable, Value } from "../shapes";
import { Empty, Shown } from "../states";
import { heading } from "../table/paths";
import type { ViewProps } from "../views/compare";
import { PathChoice } from "./choice";
import { ColourLegend, SHAPES, useColouring } from "./colours";
import { firstMetric, lastOf, metricNames, useAxes, useTable } from "./compared";
import { exports } from "./parallel";
import { scaleOf } from "./scale";
import { useWidth } from "../use-width";

const MOST = 5000;

export function Scatter({ query, known }: ViewProps) {
  const axes = useAxes(known);
  const first = useMemo(() => firstMetric(metricNames(known)), [known]);
  const [askedX] = useParam("px", text());
  const [askedY] = useParam("py", text());
  const [colour] = useParam("colour", text());
  const x = askedX || axes.parameters[0] || axes.all[0] || "";
  const y = askedY || (first ? lastOf(first) : axes.all[1] ?? "");
  const paths = useMemo(() => [...new Set([x, y, colour].filter(Boolean))], [x, y, colour]);
  const table = useTable(query, paths, MOST);
  if (!x || !y) return <Empty title="Too little to compare">A scatter plot needs a parameter and a metric.</Empty>;
  return (
    <>
      <div class="controls" role="group" aria-label="Axes">
        <PathChoice label="x" paths={axes.all} value={x} onValue={(px) => update({ px })} />
        <PathChoice label="y" paths={[...axes.metrics, ...axes.parameters]} value={y} onValue={(py) => update({ py })} />
        <PathChoice label="colour" paths={axes.all} value={colour} none="none" onValue={(next) => update({ colour: next })} />
      </div>
      <Shown answer={table} what="trials">
        {(data) => data.uids.length === 0 ? <Empty title="No trials">No trial matches.</Empty> : <Plot data={data} x={x} y={y} colour={colour} />}
      </Shown>
    </>
  );
}

const NONE: Value[] = [];
const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT] = [64, 20, 14, 44, 440];

function Plot({ data, x, y, colour }: { data: TrialTable; x: string; y: string; colour: string }) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const svg = useRef<SVGSVGElement>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const of = (path: string): Value[] => data.values[data.columns.indexOf(path)] ?? NONE;
  const [xs, ys, colours] = [of(x), of(y), of(colour)];
  const scales = useMemo(() => [scaleOf(xs), scaleOf(ys)] as const, [xs, ys]);
  const colouring = useColouring(colours);
  const xOf = (share: number): number => LEFT + 8 + share * (width - LEFT - RIGHT - 16);
  const yOf = (share: number): number => HEIGHT - BOTTOM - 8 - share * (HEIGHT - TOP - BOTTOM - 16);
  const rows = useMemo(() => data.uids.map((_, row) => row).filter((row) => scales[0].place(xs[row]) !== null && scales[1].place(ys[row]) !== null), [data, scales]);
  const left = data.uids.length - rows.length;
  const label = `${heading(y).label} over ${heading(x).label}: ${counted(rows.length, "trial")}`;
  return (
    <section class="card" aria-label="Scatter plot">
      <header>
        <p class="muted">{counted(rows.length, "trial")}{data.total > data.uids.length && ` of ${count(data.total)}, the latest`}{left > 0 && `; ${left} without both as finite values`}</p>
        <ExportMenu of="the plot" formats={exports(data, rows, svg)} />
      </header>
      <div ref={frame}>
        <svg ref={svg} class="scatter" width={width} height={HEIGHT} role="img" aria-label={cut(label, 200)}>
          {scales[0].ticks.map((tick) => (
            <g key={`${tick.at}`} class="tick"><line x1={xOf(tick.at)} x2={xOf(tick.at)} y1={TOP} y2={HEIGHT - BOTTOM} /><text x={xOf(tick.at)} y={HEIGHT - BOTTOM + 16} text-anchor="middle">{cut(tick.label, 12)}</text></g>
          ))}
          {scales[1].ticks.map((tick) => (
            <g key={`${tick.at}`} class="tick"><line x1={LEFT} x2={width - RIGHT} y1={yOf(tick.at)} y2={yOf(tick.at)} /><text x={LEFT - 7} y={yOf(tick.at) + 4} text-anchor="end">{cut(tick.label, 9)}</text></g>
          ))}
          <text class="name" x={(LEFT + width - RIGHT) / 2} y={HEIGHT - 8} text-anchor="middle">{cut(title(x), 60)}{scales[0].kind === "log" ? " (log)" : ""}</text>
          <text class="name" transform={`translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`} text-anchor="middle">{cut(title(y), 50)}{scales[1].kind === "log" ? " (log)" : ""}</text>
          {rows.map((row) => (
            <path
              key={row}
              class={hovered === row ? "point hovered" : "point"}
              d={SHAPES[colouring.shape(colours[row])]}
              transform={`translate(${xOf(scales[0].place(xs[row])!).toFixed(1)} ${yOf(scales[1].place(ys[row])!).toFixed(1)})`}
              fill={colouring.of(colours[row])}
              onPointerEnter={() => setHovered(row)}
              onPointerLeave={() => setHovered(null)}
              onClick={() => go(link(`/trials/${encodeURIComponent(data.uids[row]!)}`))}
            />
          ))}
        </svg>
      </div>
      {colour && <ColourLegend path={colour} colouring={colouring} values={colours} />}
      <p class="muted hover">
        {hovered === null ? "\u00a0" : <><bdi>{cut(data.names[hovered] || data.uids[hovered]!, 80)}</bdi>: {data.columns.map((path, index) => `${cut(heading(path).label, 30)} ${brief(data.values[index]![hovered], 30)}`).join(", ")}</>}
      </p>
    </section>
  );
}

function title(path: string): string {
  const { over, label } = heading(path);
  return over && over !== "parameter" ? `${label} · ${over}` : label;
}
