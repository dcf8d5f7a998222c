// Projections, consumers, topics and the spool: what each consists of.
import type { ComponentChildren } from "preact";
import type { Operations } from "../../api";
import { bytes, cut } from "../../format";
import { Name, Num, Time } from "../../values";

interface Props { operations: Operations }

function Card({ title, empty, children }: { title: string; empty: string | null; children: ComponentChildren }) {
  return (
    <section class="card" aria-label={title}>
      <header><h2>{title}</h2></header>
      {empty === null ? <div class="scroll bounded" tabIndex={0}>{children}</div> : <p class="muted">{empty}</p>}
    </section>
  );
}

export function Projections({ operations: { projections } }: Props) {
  return (
    <Card title="Projections" empty={projections.length === 0 ? "None: MongoDB is away, or no consumer has run yet." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Trials</th><th scope="col" class="number">Size</th><th scope="col">Created</th></tr></thead>
        <tbody>
          {projections.map((each) => (
            <tr key={each.name}>
              <th scope="row"><Name text={each.name} limit={40} />{each.live && <span class="badge good">live</span>}</th>
              <td><Name text={each.state} limit={40} /></td>
              <td class="number"><Num value={each.trials} /></td>
              <td class="number"><Size value={each.size} /></td>
              <td><Time micros={each.created} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

export function Consumers({ operations: { consumers } }: Props) {
  return (
    <Card title="Consumers" empty={consumers.length === 0 ? "None is a member of the group: start one with `trialstream consume`." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Member</th><th scope="col">Host</th><th scope="col">Partitions</th></tr></thead>
        <tbody>
          {consumers.map((each) => (
            <tr key={each.id}>
              <th scope="row"><code title={each.id}>{cut(each.id, 36)}</code></th>
              <td><Name text={each.host} limit={40} /></td>
              <td>{each.partitions.length === 0 ? <span class="muted">none</span> : <span title={each.partitions.join(", ")}>{cut(each.partitions.join(", "), 80)}</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

export function Topics({ operations: { topics } }: Props) {
  return (
    <Card title="Topics" empty={topics.length === 0 ? "None is known: Kafka is away, or they have not been created yet." : null}>
      <table class="plain">
        <thead><tr><th scope="col">Name</th><th scope="col" class="number">Partitions</th><th scope="col" class="number">Replicas</th><th scope="col" class="number">Size</th><th scope="col">Retention</th><th scope="col">Cleanup</th></tr></thead>
        <tbody>
          {topics.map((each) => (
            <tr key={each.name}>
              <th scope="row"><Name text={each.name} limit={50} /></th>
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
  const empty = spool === null ? "The dashboard is not on a machine with a spool." : spool.length === 0 ? "Empty: all events of this machine are in the log." : null;
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
