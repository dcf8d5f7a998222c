// The curves of up to 50 trials over each other: one chart for each chosen metric.
import { useMemo } from "preact/hooks";
import { Curves } from "../charts/curves";
import { counted, cut } from "../format";
import { list, update, useParam } from "../router";
import { Empty, Shown } from "../states";
import { Controls, useLook } from "../views/trial/controls";
import { useView } from "../views/trial/use-view";
import { firstMetric, lastOf, metricNames, useTable } from "./compared";
import type { ViewProps } from "../views/compare";
import { numeric } from "../format";

const MOST = 50; // trials of one chart
const CHARTS = 6;

export function Overlay({ query, known }: ViewProps) {
  const names = useMemo(() => metricNames(known), [known]);
  const [asked] = useParam("metric", list);
  const shown = asked.length ? asked.slice(0, CHARTS) : [firstMetric(names)].filter((each) => each !== undefined);
  const table = useTable(query, ["started", "created", ...shown.slice(0, 1).map((each) => `${lastOf(each)}_step`)], MOST);
  const look = useLook();
  const [view, setView] = useView();
  if (names.length === 0) return <Empty title="No metrics">These trials have logged no metric yet.</Empty>;
  const toggle = (name: string): void => {
    const next = shown.includes(name) ? shown.filter((each) => each !== name) : [...shown, name];
    update({ metric: next });
  };
  return (
    <Shown answer={table} what="trials">
      {(data) => {
        const began = data.values[0]!.map((each, row) => numeric(each) ?? numeric(data.values[1]![row]) ?? 0);
        const length = Math.max(1, ...(data.values[2] ?? []).map((each) => numeric(each) ?? 0).filter(Number.isFinite));
        return (
          <>
            <Controls look={look} length={length} metrics={names} manyAttempts={false} />
            <details class="metrics" open={names.length <= 12}>
              <summary>{counted(shown.length, "metric")} of {names.length}</summary>
              <div class="chips" role="group" aria-label="Metrics">
                {names.slice(0, 200).map((each) => (
                  <button key={each} type="button" aria-pressed={shown.includes(each)} disabled={!shown.includes(each) && shown.length >= CHARTS} onClick={() => toggle(each)}>
                    <bdi>{cut(each, 50)}</bdi>
                  </button>
                ))}
              </div>
            </details>
            {data.total > data.uids.length && <p class="muted">The latest {data.uids.length} of {counted(data.total, "trial")}.</p>}
            {shown.map((name) => (
              <section key={name} class="card" aria-label={cut(name, 60)}>
                <header><h2><bdi>{cut(name, 100)}</bdi></h2></header>
                <Lines name={name} uids={data.uids} names={data.names} started={Math.min(...began)} look={look} view={view} onView={setView} />
              </section>
            ))}
          </>
        );
      }}
    </Shown>
  );
}

function Lines({ name, uids, names, started, look, view, onView }: {
  name: string;
  uids: readonly string[];
  names: readonly string[];
  started: number;
  look: ReturnType<typeof useLook>;
  view: ReturnType<typeof useView>[0];
  onView: ReturnType<typeof useView>[1];
}) {
  const curves = useMemo(() => uids.map((trial, row) => ({ trial, name, label: cut(names[row] || trial, 60) })), [name, uids.join(" ")]);
  return <Curves title={name} curves={curves} started={started} height={360} view={view} onView={onView} {...look} />;
}
