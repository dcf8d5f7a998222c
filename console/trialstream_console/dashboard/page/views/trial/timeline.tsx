// Chronos as intervals of time: a lane for each name and rank.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type Timeline, type TrialDetail } from "../../api";
import { attachGestures } from "../../charts/gestures";
import { pan, valueAt, zoom } from "../../charts/ranges";
import { tickLabels, xTicks } from "../../charts/ticks";
import type { Range } from "../../charts/types";
import { useFetched } from "../../fetched";
import { count, counted, cut, duration, utc } from "../../format";
import { downloadSvg, downloadSvgAsPng } from "../../exporting";
import { ExportMenu } from "../../parts";
import { Shown } from "../../states";
import { compared } from "./tree";

const LANE = 22;
const LEFT = 150;
const TOP = 6;
const BOTTOM = 22;
/** Lanes that are drawn at most. */
const MOST_LANES = 60;

type Span = Timeline["spans"][number];

export function TimelineCard({ trial, turn }: { trial: TrialDetail; turn: number }) {
  const path = `/trials/${encodeURIComponent(trial.uid)}/timeline`;
  const answer = useFetched(path, (signal) => get<Timeline>(path, {}, signal));
  useEffect(() => {
    if (turn > 0) answer.reload();
  }, [turn]);
  const svg = useRef<SVGSVGElement>(null);
  return (
    <section class="card" aria-label="Timeline">
      <header>
        <h2>Timeline</h2>
        <ExportMenu
          of="the timeline"
          formats={{ SVG: () => svg.current && downloadSvg(`${trial.name}-timeline`, svg.current), PNG: () => svg.current && downloadSvgAsPng(`${trial.name}-timeline`, svg.current) }}
        />
      </header>
      <Shown answer={answer} what="the timeline">
        {(timeline) => (timeline.spans.length === 0 ? <p class="muted">No chrono has ended yet.</p> : (
          <>
            <Lanes spans={timeline.spans} start={trial.started ?? timeline.spans[0]!.start} svg={svg} />
            {timeline.total > timeline.spans.length && <p class="muted">{count(timeline.spans.length)} of {count(timeline.total)}: the first and the last of each name</p>}
          </>
        ))}
      </Shown>
    </section>
  );
}

function Lanes({ spans, start, svg }: { spans: readonly Span[]; start: number; svg: { current: SVGSVGElement | null } }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(800);
  const [view, setView] = useState<Range | null>(null);
  const [marked, setMarked] = useState<readonly [number, number] | null>(null);
  const [named, setNamed] = useState<Span | null>(null);
  const all = useMemo((): Range => [
    Math.min(...spans.map((each) => (each.start - start) / 1e6)), Math.max(...spans.map((each) => (each.start - start) / 1e6 + each.seconds)),
  ], [spans, start]);
  const lanes = useMemo(() => lanesOf(spans), [spans]);
  const shown = [...lanes.keys()].slice(0, MOST_LANES);
  const x = view ?? (all[0] < all[1] ? all : [all[0], all[0] + 1]);
  const left = width < 500 ? 90 : LEFT;
  const inner = Math.max(50, width - left - 10);
  const height = TOP + shown.length * LANE + BOTTOM;
  const at = (seconds: number) => left + ((seconds - x[0]) / (x[1] - x[0])) * inner;
  const inside = (next: Range): Range | null => {
    const cutTo: Range = [Math.max(all[0], next[0]), Math.min(all[1], next[1])];
    return cutTo[0] <= all[0] && cutTo[1] >= all[1] ? null : cutTo[0] < cutTo[1] ? cutTo : view;
  };
  const latest = useRef({ x, inside });
  latest.current = { x, inside };
  useEffect(() => {
    const observer = new ResizeObserver(() => box.current && setWidth(box.current.clientWidth));
    observer.observe(box.current!);
    const detach = attachGestures(plot.current!, {
      select: (range, done) => {
        setMarked(done ? null : range);
        if (done && range) setView([valueAt(latest.current.x, range[0]), valueAt(latest.current.x, range[1])]);
      },
      pan: (share) => setView(latest.current.inside(pan(latest.current.x, -share))),
      zoom: (factor, place) => setView(latest.current.inside(zoom(latest.current.x, factor, place))),
      whole: () => setView(null),
      hover: (place) => setNamed(place === null ? null : spanAt(place)),
      takesWheel: () => box.current!.contains(document.activeElement),
    });
    return () => {
      observer.disconnect();
      detach();
    };
  }, [spans]);
  const spanAt = ([px, py]: readonly [number, number]): Span | null => {
    const { x: range } = latest.current;
    const lane = shown[Math.floor((py * shown.length * LANE) / LANE)];
    const seconds = valueAt(range, px);
    const slack = (range[1] - range[0]) / 400;
    return (lanes.get(lane ?? "") ?? []).find((each) => seconds >= (each.start - start) / 1e6 - slack && seconds <= (each.start - start) / 1e6 + each.seconds + slack) ?? null;
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === "ArrowLeft") setView(inside(pan(x, -0.2)));
    else if (event.key === "ArrowRight") setView(inside(pan(x, 0.2)));
    else if (event.key === "+" || event.key === "=") setView(inside(zoom(x, 0.6)));
    else if (event.key === "-") setView(inside(zoom(x, 1 / 0.6)));
    else if (event.key === "0") setView(null);
    else return;
    event.preventDefault();
  };
  const ticks = xTicks("relative", x, Math.max(2, Math.floor(inner / 90)), false);
  const labels = tickLabels("relative", ticks);
  return (
    <div class="timeline" ref={box} tabIndex={0} role="group" aria-roledescription="chart" aria-label={`Timeline of ${counted(shown.length, "lane")} and ${counted(spans.length, "interval")}. Arrows move, plus and minus zoom, 0 shows all.`} onKeyDown={keys}>
      <svg ref={svg} width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
        {ticks.map((tick, i) => (
          <g key={tick} class="tick"><path d={`M${at(tick)} ${TOP}V${height - BOTTOM}`} /><text x={at(tick)} y={height - 7} text-anchor={at(tick) > width - 26 ? "end" : "middle"}>{labels[i]}</text></g>
        ))}
        <svg x={left} y="0" width={inner} height={height}>
          {shown.map((lane, i) => lanes.get(lane)!.map((each, j) => {
            const from = at((each.start - start) / 1e6) - left;
            const to = at((each.start - start) / 1e6 + each.seconds) - left;
            if (to < 0 || from > inner) return null;
            return <rect key={j} class={each.failed ? "span failed" : `span s${i % 6}`} x={from} y={TOP + i * LANE + 4} width={Math.max(1.5, to - from)} height={LANE - 8} />;
          }))}
          {marked && <rect class="marked" x={marked[0] * inner} y={TOP} width={(marked[1] - marked[0]) * inner} height={height - TOP - BOTTOM} />}
        </svg>
        {shown.map((lane, i) => <text key={lane} class="lane" x={left - 8} y={TOP + i * LANE + 15} text-anchor="end">{cut(lane, left < 100 ? 12 : 22)}</text>)}
      </svg>
      <div class="catch" ref={plot} style={{ left: `${left}px`, top: `${TOP}px`, width: `${inner}px`, height: `${shown.length * LANE}px` }} />
      <p class="muted named" title={named ? utc(named.start) : undefined}>
        {named ? `${cut(named.name, 80)}${named.rank === null ? "" : `, rank ${named.rank}`}: ${duration(named.seconds)}${named.failed ? ", failed" : ""}, ${duration((named.start - start) / 1e6)} after the start` : `${shown.length < lanes.size ? `The first ${shown.length} of ${lanes.size} lanes; point` : "Point"} at an interval for its length`}
      </p>
    </div>
  );
}

/** The spans by lane: by name, and by rank where there are several. */
function lanesOf(spans: readonly Span[]): Map<string, Span[]> {
  const ranks = new Set(spans.map((each) => each.rank));
  const lanes = new Map<string, Span[]>();
  const ordered = [...spans].sort((a, b) => compared(a.name, b.name) || (a.rank ?? -1) - (b.rank ?? -1) || a.start - b.start);
  for (const each of ordered) {
    const lane = ranks.size > 1 && each.rank !== null ? `${each.name} · ${each.rank}` : each.name;
    const known = lanes.get(lane);
    if (known) known.push(each);
    else lanes.set(lane, [each]);
  }
  return lanes;
}
