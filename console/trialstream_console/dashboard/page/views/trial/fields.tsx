// A dict of logged values as a list: nested ones open, long ones scroll.
import type { Value } from "../../api";
import { counted, cut, isObject, numeric, unwrapped } from "../../format";
import { Name, Val } from "../../values";

/** Entries that are listed at first; the others follow in a fold, so that ten thousand parameters do not stop the page. */
const MOST = 200;

export function Fields({ values, empty = "None" }: { values: Record<string, Value>; empty?: string }) {
  const entries = Object.entries(values);
  if (entries.length === 0) return <p class="muted">{empty}</p>;
  return (
    <>
      <List entries={entries.slice(0, MOST)} />
      {entries.length > MOST && <details class="more"><summary>{entries.length - MOST} more</summary><List entries={entries.slice(MOST, 5000)} /></details>}
    </>
  );
}

function List({ entries }: { entries: [string, Value][] }) {
  return (
    <dl class="fields">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt><Name text={name} limit={60} /></dt>
          <dd><Field value={value} /></dd>
        </div>
      ))}
    </dl>
  );
}

function Field({ value }: { value: Value }) {
  if (Array.isArray(value) && value.some((each) => typeof each === "object" && each !== null && numeric(each) === null)) {
    return <Nested title={counted(value.length, "item")} entries={value.map((each, i) => [String(i), each])} />;
  }
  if (isObject(value) && numeric(value) === null && !("$bytes" in value)) {
    const entries = Object.entries(unwrapped(value));
    return <Nested title={entries.length === 0 ? "{}" : `{${cut(entries.map(([name]) => name).join(", "), 50)}}`} entries={entries} />;
  }
  if (typeof value === "string" && value.length > 80) {
    return <details><summary><bdi>{cut(value, 80)}</bdi></summary><pre><bdi>{value.slice(0, 100_000)}</bdi></pre></details>;
  }
  return <Val value={value} />;
}

function Nested({ title, entries }: { title: string; entries: [string, Value][] }) {
  return <details><summary><bdi>{title}</bdi></summary><List entries={entries.slice(0, MOST)} /></details>;
}
