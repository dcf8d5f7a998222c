// The chronos of a trial: how long each part takes, as bars, as curves, and on a timeline.
import { useMemo } from "preact/hooks";
import type { ChronoInfo, TrialDetail } from "../../api";
import { Curves } from "../../charts/curves";
import { counted, cut, duration, percent } from "../../format";
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
  const time = timeOf(trial);
  const name = chronos.some((each) => each.name === chosen) ? chosen : "";
  return (
    <>
      <section class="card" aria-label="Times by name">
        <header>
          <h2>Time by name</h2>
          <ExportMenu of="the chronos" formats={{ CSV: () => exported(trial, chronos) }} />
        </header>
        <Bars chronos={chronos} chosen={name} choose={setChosen} time={time} />
        {time.processes > 1 && <p class="muted">{meaningOf(time)}</p>}
        {chronos.some((each) => each.skipped > 0) && (
          <p class="muted">Mean, least and greatest leave out the first time of a name, which may be a warm-up, unless it was logged with another aggregator.</p>
        )}
      </section>
      {name && <OneChrono trial={trial} name={name} />}
      <TimelineCard trial={trial} turn={turn} />
    </>
  );
}

function Bars({ chronos, chosen, choose, time }: { chronos: readonly ChronoInfo[]; chosen: string; choose: (name: string) => void; time: ProcessTime }) {
  const most = Math.max(...chronos.map((each) => each.sum ?? 0), 1e-12);
  return (
    <div class="scroll" tabIndex={0}>
      <table class="plain bars">
        <thead>
          <tr><th scope="col">Chrono</th><th scope="col">Sum</th><th scope="col" class="number" title={meaningOf(time)}>of the time</th><th scope="col" class="number">Times</th><th scope="col" class="number">Mean ± sd</th><th scope="col" class="number">Least</th><th scope="col" class="number">Greatest</th><th scope="col" class="number">Last</th><th scope="col" class="number">Open</th><th scope="col" class="number">Failed</th></tr>
        </thead>
        <tbody>
          {chronos.slice(0, 300).map((each) => (
            <tr key={each.name}>
              <th scope="row"><button type="button" class="plain leaf" aria-pressed={each.name === chosen} title="Show its curve" onClick={() => choose(each.name === chosen ? "" : each.name)}><Name text={each.name} limit={48} /></button></th>
              <td class="bar-cell">
                <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width={(100 * (each.sum ?? 0)) / most} height="10" /></svg>
                <Duration seconds={each.sum} />
              </td>
              <Share chrono={each} time={time} />
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

/** A chrono's part of the time of all processes; the trial's own runtime is no part of it. */
function Share({ chrono: { name, sum }, time }: { chrono: ChronoInfo; time: ProcessTime }) {
  if (name === RUNTIME) return <td class="number" title="The runtime of the trial itself, once for each end">–</td>;
  if (sum === null || !(time.seconds > 0)) return <td class="number">–</td>;
  return <td class="number" title={`${duration(sum)} of ${duration(time.seconds)}`}>{percent(sum / time.seconds)}</td>;
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

/** The name of the trial's own chrono. */
const RUNTIME = "runtime";

/** The seconds in which processes took part in a trial, added, and how many processes they are of. */
export interface ProcessTime {
  readonly seconds: number;
  readonly processes: number;
}

/**
 * The time of all processes of a trial together: of each that takes part in an attempt, from its start to its last event.
 * A trial without such processes counts as one, from its start to its end.
 */
export function timeOf({ participants, started, finished, last_seen }: Pick<TrialDetail, "participants" | "started" | "finished" | "last_seen">): ProcessTime {
  const spans = participants.length > 0
    ? participants.map(({ joined, last_seen: end }) => [joined, end] as const)
    : [[started, finished ?? last_seen] as const];
  const micros = spans.reduce((sum, [from, to]) => sum + (from !== null && to !== null ? Math.max(0, to - from) : 0), 0);
  return { seconds: micros / 1e6, processes: spans.length };
}

function meaningOf({ seconds, processes }: ProcessTime): string {
  const whole = processes > 1 ? `of ${counted(processes, "process", "processes")} together, each from its start to its last event` : "of the trial";
  return `“of the time” is the share of the time ${whole}: ${duration(seconds)}. It is over 100 % where times of one name overlap in a process.`;
}

function exported(trial: TrialDetail, chronos: readonly ChronoInfo[]): void {
  const fields = ["name", "count", "skipped", "sum", "avg", "sd", "min", "max", "last", "open", "failed"] as const;
  downloadCsv(`${trial.name}-chronos`, fields.map((field) => ({ name: field, values: chronos.map((each) => each[field]) })));
}
