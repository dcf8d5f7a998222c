// Ranks that are slower than the others: the median of a chrono for each rank, the slowest first.
import type { TrialDetail } from "../../api";
import { loadSeries } from "../../charts/series";
import { useFetched } from "../../fetched";
import { cut, duration } from "../../format";
import { text, useParam } from "../../router";
import { Shown } from "../../states";
import { Duration } from "../../values";
import { compared } from "./tree";

/** A rank counts as a straggler from this multiple of the median of all ranks on. */
const SLOW = 1.2;
/** Chronos that are looked at: the longest. */
const MOST_CHRONOS = 20;
/** Ranks that are listed: the slowest. */
const MOST = 24;

export function Stragglers({ trial }: { trial: TrialDetail }) {
  const [wanted, setWanted] = useParam("chrono", text());
  const longest = [...trial.chronos].sort((a, b) => (b.sum ?? 0) - (a.sum ?? 0));
  const names = longest.slice(0, MOST_CHRONOS).map((each) => each.name);
  const times = longest.reduce((sum, each) => sum + each.count, 0);
  const answer = useFetched(
    // Medians change little: they are asked for anew each time the chronos have doubled.
    `stragglers ${trial.uid} ${JSON.stringify(names)} ${Math.floor(Math.log2(times + 1))}`,
    (signal) => loadSeries(names.map((name) => ({ trial: trial.uid, name, section: "chronos", by: "rank" })), { x: "step", width: 1024 }, signal),
    { keep: true },
  );
  const kept = new Set(answer.data?.curves.map((each) => each.name));
  const name = kept.has(wanted) ? wanted : names.find((each) => kept.has(each));
  return (
    <section class="card" aria-label="Stragglers">
      <header>
        <h2>Stragglers</h2>
        {name !== undefined && (
          <select aria-label="Chrono" value={name} onChange={(event) => setWanted(event.currentTarget.value)}>
            {names.filter((each) => kept.has(each)).map((each) => <option key={each} value={each}>{cut(each, 60)}</option>)}
          </select>
        )}
      </header>
      <Shown answer={answer} what="chronos by rank">
        {({ curves }) => {
          const ranks = curves.filter((each) => each.name === name).map((each) => ({ rank: each.group ?? "–", seconds: median([...each.points.y]), times: each.points.total })).filter((each) => Number.isFinite(each.seconds));
          if (ranks.length === 0) return <p class="muted">No chrono has a history: log it with <code>aggregator=ts.TimeSeriesAggregator.lazy()</code>.</p>;
          const middle = median(ranks.map((each) => each.seconds));
          const most = Math.max(...ranks.map((each) => each.seconds), 1e-12);
          const shown = [...ranks].sort((a, b) => b.seconds - a.seconds || compared(a.rank, b.rank)).slice(0, MOST);
          return (
            <>
              <p class="muted">Median of each rank; of all ranks {duration(middle)}. Marked from {SLOW} times that on.</p>
              <div class="scroll" tabIndex={0}><table class="plain bars">
                <thead><tr><th scope="col" class="number">Rank</th><th scope="col">Median</th><th scope="col" class="number">of the median</th><th scope="col" class="number">Times</th></tr></thead>
                <tbody>
                  {shown.map((each) => {
                    const slow = each.seconds > SLOW * middle && ranks.length > 1;
                    return (
                      <tr key={each.rank} class={slow ? "slow" : undefined}>
                        <th scope="row" class="number">{cut(each.rank, 40)}</th>
                        <td class="bar-cell"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width={(100 * each.seconds) / most} height="10" /></svg><Duration seconds={each.seconds} /></td>
                        <td class="number">× {(each.seconds / middle).toFixed(2)}{slow && <strong> slow</strong>}</td>
                        <td class="number">{each.times}</td>
                      </tr>
                    );
                  })}
                </tbody>
              </table></div>
              {ranks.length > MOST && <p class="muted">The slowest {MOST} of {ranks.length}</p>}
            </>
          );
        }}
      </Shown>
    </section>
  );
}

/** The value in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const ordered = values.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = ordered.length >> 1;
  if (ordered.length === 0) return NaN;
  return ordered.length % 2 ? ordered[middle]! : (ordered[middle - 1]! + ordered[middle]!) / 2;
}
