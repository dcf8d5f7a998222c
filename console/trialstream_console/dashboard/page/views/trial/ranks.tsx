// The ranks of a trial: the state of each, their curves, and who is slower than the others.
import { useMemo } from "preact/hooks";
import type { TrialDetail } from "../../api";
import { Curves } from "../../charts/curves";
import { counted, cut } from "../../format";
import { choice, flag, text, update, useParam } from "../../router";
import { Empty } from "../../states";
import { Name, Time } from "../../values";
import type { TabProps } from "../trial";
import { Controls, useLook } from "./controls";
import { Stragglers } from "./stragglers";
import { useView } from "./use-view";

type Participant = TrialDetail["participants"][number];

/** A rank that has been silent for this long while others log, seconds. */
const SILENT = 60;
/** Ranks that have a row of their own; more are squares. */
const MOST_ROWS = 64;

export function RanksTab({ trial, rows }: TabProps) {
  const [earlier, setEarlier] = useParam("earlier", flag);
  const participants = useMemo(() => trial.participants
    .filter((each) => earlier || each.latest)
    .sort((a, b) => b.attempt - a.attempt || (a.rank ?? -1) - (b.rank ?? -1)), [trial.participants, earlier]);
  if (trial.participants.length === 0) {
    return <Empty title="No ranks">Processes that join the trial appear here: <code>ts.track</code> joins it by itself under torchrun, Slurm, MPI or Ray.</Empty>;
  }
  const several = trial.participants.some((each) => !each.latest);
  return (
    <>
      <section class="card" aria-label="States">
        <header>
          <h2>{counted(participants.length, "process", "processes")}</h2>
          {several && <label><input type="checkbox" checked={earlier} onChange={() => setEarlier(!earlier)} /> earlier attempts too</label>}
        </header>
        {participants.length > 16 && <Squares participants={participants} trial={trial} />}
        <States participants={participants.slice(0, MOST_ROWS)} trial={trial} />
        {participants.length > MOST_ROWS && <p class="muted">The first {MOST_ROWS} of {participants.length}; all of them are squares above.</p>}
      </section>
      {trial.metrics.length > 0 && <RankCurves trial={trial} rows={rows} />}
      {trial.chronos.length > 0 && <Stragglers trial={trial} />}
    </>
  );
}

type State = "lost" | "failed" | "ended" | "running";

function stateOf(each: Participant, trial: TrialDetail): State {
  if (each.error || /fail|error|exception|interrupt|lost/i.test(each.status)) return "failed";
  if (/complet|end|left|done|finish|terminat/i.test(each.status)) return "ended";
  const latest = trial.last_seen ?? 0;
  return each.last_seen !== null && (trial.status.lost || latest - each.last_seen > SILENT * 1e6) ? "lost" : "running";
}

function Squares({ participants, trial }: { participants: readonly Participant[]; trial: TrialDetail }) {
  return (
    <ul class="squares" aria-label="All processes">
      {participants.slice(0, 4096).map((each) => {
        const state = stateOf(each, trial);
        return <li key={`${each.attempt} ${each.writer}`} class={`square ${state}`} title={`rank ${each.rank ?? "–"} on ${each.host}: ${each.status || state}`}><span class="sr">rank {each.rank}: {state}</span></li>;
      })}
    </ul>
  );
}

function States({ participants, trial }: { participants: readonly Participant[]; trial: TrialDetail }) {
  return (
    <div class="scroll" tabIndex={0}>
      <table class="plain">
        <thead><tr><th scope="col" class="number">Rank</th><th scope="col">State</th><th scope="col">Host</th><th scope="col">Joined</th><th scope="col">Last event</th><th scope="col" class="number">Attempt</th><th scope="col">Error</th></tr></thead>
        <tbody>
          {participants.map((each) => {
            const state = stateOf(each, trial);
            return (
              <tr key={`${each.attempt} ${each.writer}`}>
                <th scope="row" class="number">{each.rank ?? "–"}</th>
                <td><span class={`status ${state}`}><span class={`square ${state}`} aria-hidden="true" />{state === "lost" ? "silent" : <Name text={each.status || state} limit={24} />}</span></td>
                <td class="nowrap"><Name text={each.host} limit={40} /></td>
                <td><Time micros={each.joined} seconds /></td>
                <td><Time micros={each.last_seen} seconds relative={state === "running" || state === "lost"} /></td>
                <td class="number">{each.attempt}</td>
                <td>{each.error ? <details><summary><Name text={each.error.split("\n").filter(Boolean).pop() ?? ""} limit={80} /></summary><pre><bdi>{each.error}</bdi></pre></details> : ""}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function RankCurves({ trial, rows }: { trial: TrialDetail; rows: TabProps["rows"] }) {
  const look = useLook();
  const [view, setView] = useView();
  const [as, setAs] = useParam("as", choice(["lines", "band"], "lines"));
  const [wanted, setWanted] = useParam("metric", text());
  const name = trial.metrics.some((each) => each.name === wanted) ? wanted : trial.metrics[0]!.name;
  const curves = useMemo(() => [{ trial: trial.uid, name, by: "rank" as const }], [trial.uid, name]);
  const live = useMemo(() => rows.of([name]), [rows, name]);
  const length = look.x === "step" ? Math.max(0, ...trial.metrics.map((each) => (typeof each.last_step === "number" ? each.last_step : each.count))) : ((trial.last_seen ?? 0) - (trial.started ?? 0)) / 1e6;
  return (
    <section class="card" aria-label="Curves of the ranks">
      <header>
        <h2>Curves by rank</h2>
        <span class="bar flat">
          <select aria-label="Metric" value={name} onChange={(event) => { setWanted(event.currentTarget.value); update({ from: null, to: null }, { replace: true }); }}>
            {trial.metrics.slice(0, 1000).map((each) => <option key={each.name} value={each.name}>{cut(each.name, 60)}</option>)}
          </select>
          <span class="segments" role="group" aria-label="Shown as">
            <button type="button" aria-pressed={as === "lines"} onClick={() => setAs("lines")}>lines</button>
            <button type="button" aria-pressed={as === "band"} onClick={() => setAs("band")}>band</button>
          </span>
        </span>
      </header>
      <Controls look={look} length={length} metrics={[]} manyAttempts={trial.attempts.length > 1} />
      <Curves title={`${name} by rank`} curves={curves} rows={live} started={trial.started ?? trial.created ?? 0} height={300} view={view} onView={setView} band={as === "band"} {...look} />
    </section>
  );
}

