// Partitions: where each ends, how far it is folded, and how fast it grows.
import type { ComponentChildren } from "preact";
import type { Operations } from "../../api";
import { duration, noun, short } from "../../format";
import { downloadCsv, downloadJson } from "../../exporting";
import { ExportMenu } from "../../parts";
import { Duration, Name, Num } from "../../values";
import { Sparkline } from "./sparkline";

/** Sums over all partitions, and the rates of each, by look. */
export interface History {
  readonly rate: number[];
  readonly lag: number[];
  readonly partitions: Map<string, number[]>;
}

/** A lag that a reader notices, seconds: pages are to be a second behind at most. */
const LATE = 5;

export function Figures({ operations, history }: { operations: Operations; history: History }) {
  const { partitions, consumers, dead_letters } = operations;
  const known = partitions.filter((each) => each.lag !== null);
  const lag = known.reduce((sum, each) => sum + each.lag!, 0);
  const seconds = Math.max(0, ...partitions.map((each) => each.lag_seconds ?? 0));
  const rated = partitions.some((each) => each.rate !== null);
  return (
    <dl class="figures">
      <Figure name="Lag" alarm={seconds > LATE} line={<Sparkline values={history.lag} label="Lag in the last minutes" />}>
        {known.length === 0 ? "–" : <><Num value={lag} /> <small>{noun(lag, "event")}{seconds > 0 ? `, ${duration(seconds)}` : ""}</small></>}
      </Figure>
      <Figure name="Rate" line={<Sparkline values={history.rate} label="Rate in the last minutes" />}>
        {rated ? <>{short(history.rate[history.rate.length - 1] ?? 0)} <small>events/s</small></> : "–"}
      </Figure>
      <Figure name="Consumers" alarm={consumers.length === 0 && partitions.length > 0}>{consumers.length}{consumers.length === 0 && <small> none folds</small>}</Figure>
      <Figure name="Dead letters" alarm={dead_letters > 0}><Num value={dead_letters} /></Figure>
      <Figure name="Trials"><Num value={operations.projections.find((each) => each.live)?.trials ?? null} /></Figure>
    </dl>
  );
}

function Figure({ name, alarm, line, children }: { name: string; alarm?: boolean; line?: ComponentChildren; children: ComponentChildren }) {
  return <div class={alarm ? "card alarm" : "card"}><dt>{name}</dt><dd><span>{children}</span>{line}</dd></div>;
}

export function Partitions({ operations, history }: { operations: Operations; history: History }) {
  const { partitions } = operations;
  return (
    <section class="card partitions" aria-label="Partitions">
      <header>
        <h2>Partitions</h2>
        {partitions.length > 0 && <ExportMenu of="the partitions" formats={{ CSV: () => exported(operations), JSON: () => downloadJson("operations", operations) }} />}
      </header>
      {partitions.length === 0 ? <p class="muted">Kafka names none: it is away, or its topics have not been created yet.</p> : (
        <div class="scroll bounded" tabIndex={0}>
          <table class="plain">
            <thead><tr><th scope="col">Topic</th><th scope="col" class="number">Partition</th><th scope="col" class="number">Begin</th><th scope="col" class="number">End</th><th scope="col" class="number">Folded</th><th scope="col" class="number">Lag</th><th scope="col" class="number">Behind</th><th scope="col">Events/s</th><th scope="col">Owner</th></tr></thead>
            <tbody>
              {partitions.map((each) => (
                <tr key={`${each.topic} ${each.partition}`} class={(each.lag_seconds ?? 0) > LATE ? "late" : undefined}>
                  <th scope="row"><Name text={each.topic} limit={32} ends /></th>
                  <td class="number">{each.partition}</td>
                  <td class="number"><Num value={each.begin} /></td>
                  <td class="number"><Num value={each.end} /></td>
                  <td class="number"><Num value={each.folded} /></td>
                  <td class="number"><Num value={each.lag} /></td>
                  <td class="number"><Duration seconds={each.lag_seconds} /></td>
                  <td class="rate"><Num value={each.rate} /> <Sparkline values={history.partitions.get(`${each.topic} ${each.partition}`) ?? []} label="Rate in the last minutes" width={60} height={16} /></td>
                  <td>{each.owner === null ? <span class="muted">none</span> : <Name text={each.owner} limit={30} />}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function exported({ partitions }: Operations): void {
  const fields = ["topic", "partition", "begin", "end", "folded", "lag", "lag_seconds", "rate", "owner"] as const;
  downloadCsv("partitions", fields.map((field) => ({ name: field, values: partitions.map((each) => each[field]) })));
}
