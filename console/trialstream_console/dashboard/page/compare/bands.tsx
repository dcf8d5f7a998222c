// Means and spreads over trials: one band for each group, or each value of a parameter.
import { useMemo } from "preact/hooks";
import { columns } from "../api";
import { Chart } from "../charts/chart";
import { NO_COUNTS, NO_MARKS, type Band } from "../charts/types";
import { useFetched } from "../fetched";
import { brief, counted, cut } from "../format";
import { choice, flag, text, update, useParam } from "../router";
import type { Value } from "../shapes";
import { Empty, Shown } from "../states";
import { heading } from "../table/paths";
import { useNames } from "../table/scope";
import { useView } from "../views/trial/use-view";
import type { ViewProps } from "../views/compare";
import { NameChoice } from "./choice";
import { firstMetric, metricNames, useAxes } from "./compared";

interface BandsHeader {
  bands: { key: Value; trials: number; points: number; offset: number; columns: string[] }[];
}

const POINTS = 600;
const SPREADS = {
  sd: ["Mean ± sd", "mean", "", ""],
  quantiles: ["Median, quartiles", "q0.5", "q0.25", "q0.75"],
  range: ["Mean, min to max", "mean", "min", "max"],
} as const;

export function Bands({ query, known }: ViewProps) {
  const names = useMemo(() => metricNames(known), [known]);
  const axes = useAxes(known);
  const groups = useNames().groups;
  const [asked] = useParam("metric", text());
  const [by] = useParam("by", text("group"));
  const [spread] = useParam("spread", choice(["sd", "quantiles", "range"] as const, "sd"));
  const [yLog] = useParam("ylog", flag);
  const [view, setView] = useView();
  const name = asked || firstMetric(names) || "";
  const answer = useFetched(
    name ? `bands ${JSON.stringify([query, name, by])}` : null,
    (signal) => columns<BandsHeader>("/bands", { where: query, group_by: by, name, points: POINTS, quantiles: [0.25, 0.5, 0.75] }, signal),
    { keep: true },
  );
  const bands = useMemo(() => {
    const [, middle, least, greatest] = SPREADS[spread];
    return (answer.data?.header.bands ?? []).map((each, index): Band => {
      const column = (part: string): Float64Array => {
        const at = each.columns.indexOf(part);
        const from = each.offset + at * each.points;
        return at < 0 ? new Float64Array(each.points).fill(NaN) : answer.data!.doubles.subarray(from, from + each.points);
      };
      const mid = column(middle);
      const sd = spread === "sd" ? column("sd") : undefined;
      const value = typeof each.key === "string" ? groups.get(each.key)?.name ?? each.key : each.key;
      return {
        key: `${by} ${JSON.stringify(each.key)}`,
        label: `${value === null ? "none" : brief(value, 40)} (${counted(each.trials, "trial")})`,
        colour: index,
        x: column("step"),
        low: sd ? mid.map((mean, row) => mean - sd[row]!) : column(least),
        mid,
        high: sd ? mid.map((mean, row) => mean + sd[row]!) : column(greatest),
        counts: NO_COUNTS,
        marks: NO_MARKS,
      };
    });
  }, [answer.data, spread, groups.size]);
  if (names.length === 0) return <Empty title="No metrics">These trials have logged no metric yet.</Empty>;
  return (
    <>
      <div class="controls" role="group" aria-label="Bands">
        <NameChoice label="metric" names={names} value={name} onValue={(metric) => update({ metric, from: null, to: null })} />
        <label>
          one band for each{" "}
          <select value={by} onChange={(event) => update({ by: event.currentTarget.value })}>
            <option value="group">group</option>
            {axes.parameters.slice(0, 200).map((each) => <option key={each} value={each}>{cut(heading(each).label, 60)}</option>)}
          </select>
        </label>
        <label>
          spread{" "}
          <select value={spread} onChange={(event) => update({ spread: event.currentTarget.value })}>
            {Object.entries(SPREADS).map(([each, [label]]) => <option key={each} value={each}>{label}</option>)}
          </select>
        </label>
        <button type="button" aria-pressed={yLog} onClick={() => update({ ylog: !yLog })}>log y</button>
      </div>
      <Shown answer={answer} what="bands">
        {() => bands.length === 0 ? <Empty title="No finite values">None of these trials has a finite value of {cut(name, 60)}.</Empty> : (
          <section class="card" aria-label={cut(name, 60)}>
            <header><h2><bdi>{cut(name, 100)}</bdi></h2></header>
            <Chart title={name} lines={NONE} bands={bands} xKind="step" xLabel="step" yLog={yLog} height={420} view={view} onView={setView} />
          </section>
        )}
      </Shown>
    </>
  );
}

const NONE: never[] = [];
