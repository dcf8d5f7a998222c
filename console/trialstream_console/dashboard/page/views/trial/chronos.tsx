// The chronos of a trial: how long each part takes, as bars, as curves, and on a timeline.
import { useMemo } from "preact/hooks";
import type { ChronoInfo, TrialDetail } from "../../api";
import { Curves } from "../../charts/curves";
import { cut, duration, percent } from "../../format";
import { downloadCsv } from "../../exporting";
import { ExportMenu } from "../../parts";
import { text, useParam } from "../../router";
import { Empty } from "../../states";
import { Duration, Name, Num } from "../../values";
import type { TabProps } from "../trial";
import { TimelineCard } from "./timeline";
import { useView } from "./use-view";

export function ChronosTab({ trial, turn }: TabProps) {
  const [chosen, setChosen] = useParam("chrono", text());
  const chronos = useMemo(() => [...trial.chronos].sort((a, b) => (b.sum ?? 0) - (a.sum ?? 0)), [trial.chronos]);
  if (chronos.length === 0) {
    return <Empty title="No chronos">They appear here with the first <code>with t.chrono("step")</code>.</Empty>;
  }
  const name = chronos.some((each) => each.name === chosen) ? chosen : "";
  return (
    <>
      <section class="card" aria-label="Times by name">
        <header>
          <h2>Time by name</h2>
          <ExportMenu of="the chronos" formats={{ CSV: () => exported(trial, chronos) }} />
        </header>
        <Bars chronos={chronos} chosen={name} choose={setChosen} total={totalOf(trial)} />
        {chronos.some((each) => each.skipped > 0) && (
          <p class="muted">Mean, least and greatest leave out the first time of a name, which may be a warm-up, unless it was logged with another aggregator.</p>
        )}
      </section>
      {name && <OneChrono trial={trial} name={name} />}
      <TimelineCard trial={trial} turn={turn} />
    </>
  );
}

function Bars({ chronos, chosen, choose, total }: { chronos: readonly ChronoInfo[]; chosen: string; choose: (name: string) => void; total: number }) {
  const most = Math.max(...chronos.map((each) => each.sum ?? 0), 1e-12);
  return (
    <div class="scroll" tabIndex={0}>
      <table class="plain bars">
        <thead>
          <tr><th scope="col">Chrono</th><th scope="col">Sum</th><th scope="col" class="number">of the time</th><th scope="col" class="number">Times</th><th scope="col" class="number">Mean ± sd</th><th scope="col" class="number">Least</th><th scope="col" class="number">Greatest</th><th scope="col" class="number">Last</th><th scope="col" class="number">Open</th><th scope="col" class="number">Failed</th></tr>
        </thead>
        <tbody>
          {chronos.slice(0, 300).map((each) => (
            <tr key={each.name}>
              <th scope="row"><button type="button" class="plain leaf" aria-pressed={each.name === chosen} title="Show its curve" onClick={() => choose(each.name === chosen ? "" : each.name)}><Name text={each.name} limit={48} /></button></th>
              <td class="bar-cell">
                <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width={(100 * (each.sum ?? 0)) / most} height="10" /></svg>
                <Duration seconds={each.sum} />
              </td>
              <td class="number">{total > 0 && each.sum !== null ? percent(each.sum / total) : "–"}</td>
              <td class="number"><Num value={each.count} /></td>
              <td class="number"><Duration seconds={each.avg} />{each.sd !== null && <span class="muted"> ± {duration(each.sd)}</span>}</td>
              <td class="number"><Duration seconds={each.min} /></td>
              <td class="number"><Duration seconds={each.max} /></td>
              <td class="number"><Duration seconds={each.last} /></td>
              <td class="number">{each.open || ""}</td>
              <td class={each.failed > 0 ? "number alarm" : "number"}>{each.failed || ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function OneChrono({ trial, name }: { trial: TrialDetail; name: string }) {
  const [view, setView] = useView();
  const curves = useMemo(() => [{ trial: trial.uid, name, section: "chronos" as const }], [trial.uid, name]);
  return (
    <section class="card" aria-label={cut(name, 100)}>
      <header><h2><Name text={name} limit={80} /> <span class="muted">seconds of each time</span></h2></header>
      <Curves title={`${name}, seconds`} curves={curves} x="step" started={trial.started ?? 0} height={240} view={view} onView={setView} />
    </section>
  );
}

/** Seconds in which the trial ran: with chronos of several ranks, their sums may be more. */
function totalOf({ started, finished, last_seen }: TrialDetail): number {
  const end = finished ?? last_seen;
  return started !== null && end !== null ? (end - started) / 1e6 : 0;
}

function exported(trial: TrialDetail, chronos: readonly ChronoInfo[]): void {
  const fields = ["name", "count", "skipped", "sum", "avg", "sd", "min", "max", "last", "open", "failed"] as const;
  downloadCsv(`${trial.name}-chronos`, fields.map((field) => ({ name: field, values: chronos.map((each) => each[field]) })));
}
