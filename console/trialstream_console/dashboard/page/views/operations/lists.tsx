// Projections, consumers, topics and the spool: what each consists of.
import type { ComponentChildren } from "preact";
import type { Operations } from "../../api";
import { bytes, cut, cutMiddle } from "../../format";
import { Name, Num, Time } from "../../values";

interface Props { operations: Operations }

function Card({ title, empty, broad, children }: { title: string; empty: string | null; broad?: boolean; children: ComponentChildren }) {
  return (
    <section class={broad ? "card broad" : "card"} aria-label={title}>
      <header><h2>{title}</h2></header>
      {empty === null ? <div class="scroll bounded" tabIndex={0}>{children}</div> : <p class="muted">{empty}</p>}
    </section>
  );
}

export function Projections({ operations: { projections } }: Props) {
  return (
    <Card title="Projections" empty={projections.length === 0 ? "None: MongoDB is away, or no consumer has run yet." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Trials</th><th scope="col" class="number">Size</th><th scope="col">Log</th></tr></thead>
        <tbody>
          {projections.map((each) => (
            <tr key={each.name}>
              <th scope="row"><Name text={each.name} limit={24} ends /></th>
              <td class="nowrap">{each.live ? <span class="badge good">{each.state}</span> : <Name text={each.state} limit={40} />}</td>
              <td class="number"><Num value={each.trials} /></td>
              <td class="number"><Size value={each.size} /></td>
              <td class="nowrap">{each.until === null ? "all of it" : <>until <Time micros={each.until} /></>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

export function Consumers({ operations: { consumers } }: Props) {
  return (
    <Card title="Consumers" broad empty={consumers.length === 0 ? "None is a member of the group: start one with `trialstream consume`." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Member</th><th scope="col">Host</th><th scope="col">Partitions</th></tr></thead>
        <tbody>
          {consumers.map((each) => (
            <tr key={each.id}>
              <th scope="row"><code title={each.id}>{cut(each.id, 36)}</code></th>
              <td><Name text={each.host} limit={40} /></td>
              <td class="roomy">{each.partitions.length === 0 ? <span class="muted">none</span> : <span title={each.partitions.join(", ")}>{cut(inRuns(each.partitions), 200)}</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

/** Partitions such as `log/0`, `log/1`, `log/3` in short: `log/0–1, log/3`. */
export function inRuns(partitions: readonly string[]): string {
  const runs: { topic: string; from: number; to: number }[] = [];
  const ordered = partitions.map((each) => ({ topic: each.slice(0, each.lastIndexOf("/")), number: Number(each.slice(each.lastIndexOf("/") + 1)) }));
  for (const { topic, number } of ordered.sort((a, b) => a.topic.localeCompare(b.topic) || a.number - b.number)) {
    const last = runs.at(-1);
    if (last?.topic === topic && last.to + 1 === number) last.to = number;
    else runs.push({ topic, from: number, to: number });
  }
  return runs.map(({ topic, from, to }) => `${cutMiddle(topic, 32)}/${from === to ? from : `${from}–${to}`}`).join(", ");
}

export function Topics({ operations: { topics } }: Props) {
  return (
    <Card title="Topics" broad empty={topics.length === 0 ? "None is known: Kafka is away, or they have not been created yet." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Name</th><th scope="col" class="number">Partitions</th><th scope="col" class="number">Replicas</th><th scope="col" class="number">Size</th><th scope="col">Retention</th><th scope="col">Cleanup</th></tr></thead>
        <tbody>
          {topics.map((each) => (
            <tr key={each.name}>
              <th scope="row"><Name text={each.name} limit={32} ends /></th>
              <td class="number">{each.partitions}</td>
              <td class="number">{each.replication}</td>
              <td class="number"><Size value={each.bytes} /></td>
              <td>{each.retention}</td>
              <td>{each.cleanup}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

export function Spool({ operations: { spool } }: Props) {
  const empty = spool === null ? "None: no event of this machine has had to wait on its disk." : spool.length === 0 ? "Empty: all events of this machine are in the log." : null;
  return (
    <Card title="Spool" empty={empty}>
      <table class="plain">
        <thead><tr><th scope="col">Folder</th><th scope="col" class="number">Events</th><th scope="col" class="number">Size</th><th scope="col" class="number">Writers</th></tr></thead>
        <tbody>
          {(spool ?? []).map((each) => (
            <tr key={each.path}>
              <th scope="row"><code><Name text={each.path} limit={80} /></code></th>
              <td class="number"><Num value={each.events} /></td>
              <td class="number"><Size value={each.bytes} /></td>
              <td class="number">{each.writers}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

function Size({ value }: { value: number | null }) {
  return value === null ? <span class="none" aria-label="none">–</span> : <span title={`${value} bytes`}>{bytes(value)}</span>;
}
