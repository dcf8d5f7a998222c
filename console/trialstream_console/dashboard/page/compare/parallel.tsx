// Parallel coordinates: an axis for each parameter and the target, a line for each trial; axes are brushed to filter.
import { useMemo, useRef, useState } from "preact/hooks";
import { downloadCsv, downloadJson, downloadSvg, downloadSvgAsPng } from "../exporting";
import { count, counted, cut } from "../format";
import { ExportMenu } from "../parts";
import { go, link, list, text, update, useParam } from "../router";
import type { TrialTable, Value } from "../shapes";
import { Empty, Shown } from "../states";
import { heading } from "../table/paths";
import type { ViewProps } from "../views/compare";
import { PathChoice } from "./choice";
import { ColourLegend, useColouring } from "./colours";
import { firstMetric, lastOf, metricNames, useAxes, useTable } from "./compared";
import { scaleOf, type Scale } from "./scale";
import { useWidth } from "../use-width";

const MOST = 2000; // lines: more hide each other
const AXES = 7;

export function Parallel({ query, known }: ViewProps) {
  const axes = useAxes(known);
  const [asked] = useParam("axes", list);
  const [asTarget] = useParam("target", text());
  const first = useMemo(() => firstMetric(metricNames(known)), [known]);
  const target = asTarget || (first ? lastOf(first) : "");
  const shown = asked.length ? asked : axes.parameters.slice(0, AXES - 1);
  const paths = useMemo(() => [...new Set([...shown, target].filter(Boolean))], [shown.join("\u0000"), target]);
  const table = useTable(query, paths, MOST);
  if (paths.length < 2) return <Empty title="Too little to compare">Parallel coordinates need a parameter and a metric, or two parameters.</Empty>;
  return (
    <>
      <div class="controls" role="group" aria-label="Axes">
        <PathChoice label="target, and colour" paths={[...axes.metrics, ...axes.parameters]} value={target} onValue={(next) => update({ target: next })} />
        <details class="metrics">
          <summary>{counted(paths.length, "axis", "axes")}</summary>
          <div class="chips" role="group" aria-label="Axes">
            {axes.all.slice(0, 200).map((each) => {
              const on = paths.includes(each);
              const next = on ? shown.filter((path) => path !== each) : [...shown, each];
              return (
                <button key={each} type="button" aria-pressed={on} disabled={each === target} onClick={() => update({ axes: next })}>
                  <bdi>{cut(heading(each).label, 40)}</bdi>{heading(each).over !== "parameter" && <span class="muted">{heading(each).over}</span>}
                </button>
              );
            })}
          </div>
        </details>
      </div>
      <Shown answer={table} what="trials">
        {(data) => data.uids.length === 0 ? <Empty title="No trials">No trial matches.</Empty> : <Plot data={data} target={target} />}
      </Shown>
    </>
  );
}

interface Brush { path: string; low: number; high: number }

/** `path:0.2:0.7` in the address: shares of the axis. */
export function brushesOf(texts: readonly string[]): Brush[] {
  return texts.flatMap((each) => {
    const [high, low, ...path] = each.split(":").reverse();
    const brush = { path: path.reverse().join(":"), low: Number(low), high: Number(high) };
    return brush.path && brush.low < brush.high ? [brush] : [];
  });
}

const TOP = 46;
const HEIGHT = 400;
const SIDE = 70;

function Plot({ data, target }: { data: TrialTable; target: string }) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const svg = useRef<SVGSVGElement>(null);
  const [brushTexts] = useParam("brush", list);
  const [hovered, setHovered] = useState<number | null>(null);
  const [drag, setDrag] = useState<{ path: string; from: number; to: number } | null>(null);
  const scales = useMemo(() => new Map(data.columns.map((path, index) => [path, scaleOf(data.values[index]!)])), [data]);
  const values = data.values[data.columns.indexOf(target)] ?? NO_VALUES;
  const colouring = useColouring(values);
  const brushes = brushesOf(brushTexts);
  const { columns } = data;
  const least = Math.max(width, 2 * SIDE + (columns.length - 1) * 96);
  const xOf = (index: number): number => SIDE + (index * (least - 2 * SIDE)) / Math.max(1, columns.length - 1);
  const yOf = (share: number): number => TOP + (1 - share) * (HEIGHT - TOP - 24);
  const isIn = (row: number): boolean => brushes.every(({ path, low, high }) => {
    const index = columns.indexOf(path);
    if (index < 0) return true;
    const place = scales.get(path)!.place(data.values[index]![row]);
    return place !== null && place >= low && place <= high;
  });
  const rows = useMemo(() => data.uids.map((_, row) => row).filter(isIn), [data, brushTexts]);
  const lineOf = (row: number): string => {
    let path = "";
    let up = true;
    columns.forEach((column, index) => {
      const place = scales.get(column)!.place(data.values[index]![row]);
      if (place !== null) path += `${up ? "M" : "L"}${xOf(index).toFixed(1)} ${yOf(place).toFixed(1)}`;
      up = place === null;
    });
    return path;
  };
  const shapes = useMemo(() => data.uids.map((_, row) => lineOf(row)), [data, least]);
  const kept = new Set(rows);
  const shareAt = (event: PointerEvent): number => {
    const box = svg.current!.getBoundingClientRect();
    return Math.max(0, Math.min(1, 1 - (event.clientY - box.top - TOP) / (HEIGHT - TOP - 24)));
  };
  const settle = (): void => {
    if (!drag) return;
    const [low, high] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    const others = brushTexts.filter((each) => !each.startsWith(`${drag.path}:`));
    update({ brush: high - low < 0.01 ? others : [...others, `${drag.path}:${low.toFixed(3)}:${high.toFixed(3)}`] });
    setDrag(null);
  };
  const shownBrushes = drag ? [...brushes.filter((each) => each.path !== drag.path), { path: drag.path, low: Math.min(drag.from, drag.to), high: Math.max(drag.from, drag.to) }] : brushes;
  const title = `Parallel coordinates of ${counted(rows.length, "trial")}: ${columns.map((each) => heading(each).label).join(", ")}`;
  return (
    <section class="card" aria-label="Parallel coordinates">
      <header>
        <p class="muted">{brushes.length > 0 ? `${rows.length} of ${counted(data.uids.length, "trial")} within the marked ranges` : `${counted(data.uids.length, "trial")}${data.total > data.uids.length ? ` of ${count(data.total)}, the latest` : ""}. Drag along an axis to filter.`}</p>
        <span class="bar">
          {brushes.length > 0 && <button type="button" onClick={() => update({ brush: null })}>Clear ranges</button>}
          {brushes.length > 0 && rows.length > 0 && rows.length <= 50 && <a class="button" href={link("/compare", { trials: rows.map((row) => data.uids[row]!) })}>Overlay these</a>}
          <ExportMenu of="the plot" formats={exports(data, rows, svg)} />
        </span>
      </header>
      <div class="scroll" ref={frame} tabIndex={0} role="region" aria-label="Axes and lines">
        <svg ref={svg} class="parallel" width={least} height={HEIGHT} role="img" aria-label={title}>
          <g class="lines" stroke-opacity={Math.max(0.14, Math.min(0.75, 220 / rows.length))}>
            {shapes.map((shape, row) => (
              <path
                key={row}
                d={shape}
                class={`${kept.has(row) ? "" : "out"}${hovered === row ? " hovered" : ""}`}
                stroke={colouring.of(values[row])}
                onPointerEnter={() => setHovered(row)}
                onPointerLeave={() => setHovered(null)}
                onClick={() => go(link(`/trials/${encodeURIComponent(data.uids[row]!)}`))}
              />
            ))}
            {hovered !== null && <path d={shapes[hovered]} class="hovered top" stroke={colouring.of(values[hovered])} />}
          </g>
          {columns.map((path, index) => (
            <Axis key={path} path={path} scale={scales.get(path)!} x={xOf(index)} yOf={yOf} last={index === columns.length - 1} />
          ))}
          {shownBrushes.map(({ path, low, high }) => columns.includes(path) && (
            <rect key={path} class="brush" x={xOf(columns.indexOf(path)) - 8} width={16} y={yOf(high)} height={Math.max(1, yOf(low) - yOf(high))} />
          ))}
          {columns.map((path, index) => (
            <rect
              key={path}
              class="handle"
              x={xOf(index) - 16}
              width={32}
              y={TOP - 6}
              height={HEIGHT - TOP - 12}
              onPointerDown={(event) => {
                event.currentTarget.setPointerCapture(event.pointerId);
                setDrag({ path, from: shareAt(event), to: shareAt(event) });
              }}
              onPointerMove={(event) => drag?.path === path && setDrag({ ...drag, to: shareAt(event) })}
              onPointerUp={settle}
            />
          ))}
        </svg>
      </div>
      <ColourLegend path={target} colouring={colouring} values={values} />
      <p class="muted hover" aria-live="off">{hovered === null ? "\u00a0" : <bdi>{cut(data.names[hovered] || data.uids[hovered]!, 120)}</bdi>}</p>
    </section>
  );
}

const NO_VALUES: Value[] = [];

function Axis({ path, scale, x, yOf, last }: { path: string; scale: Scale; x: number; yOf: (share: number) => number; last: boolean }) {
  const { over, label } = heading(path);
  return (
    <g class="axis">
      <title>{cut(path, 500)}</title>
      <line x1={x} x2={x} y1={yOf(1)} y2={yOf(0)} />
      <text x={x} y={14} class="name" text-anchor="middle">{cut(label, 16)}</text>
      <text x={x} y={29} class="over" text-anchor="middle">{cut(over, 16)}</text>
      {scale.ticks.map((tick) => (
        <text key={`${tick.at} ${tick.label}`} x={last ? x + 8 : x - 8} y={yOf(tick.at) + 4} text-anchor={last ? "start" : "end"}>{cut(tick.label, 11)}</text>
      ))}
    </g>
  );
}

/** The rows of a plot as files, and its picture. */
export function exports(data: TrialTable, rows: readonly number[], svg: { current: SVGSVGElement | null }): Record<string, () => void> {
  const named = [{ name: "uid", values: rows.map((row) => data.uids[row]!) }, { name: "name", values: rows.map((row) => data.names[row]!) }];
  const all = [...named, ...data.columns.map((name, index) => ({ name, values: rows.map((row) => data.values[index]![row]!) }))];
  return {
    CSV: () => downloadCsv("comparison", all),
    JSON: () => downloadJson("comparison", rows.map((_, row) => Object.fromEntries(all.map((each) => [each.name, each.values[row]])))),
    PNG: () => svg.current && downloadSvgAsPng("comparison", svg.current),
    SVG: () => svg.current && downloadSvg("comparison", svg.current),
  };
}
