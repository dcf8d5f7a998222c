// The raw events of a trial, as they are in its log.
import { useEffect, useState } from "preact/hooks";
import { Failure, get, isAbort, type EventPage, type EventRow } from "../../api";
import { cut, duration, full } from "../../format";
import { downloadJson } from "../../exporting";
import { choice, text, useParam } from "../../router";
import { Empty, ErrorState, Loading, passing } from "../../states";
import { Name, Time } from "../../values";
import type { TabProps } from "../trial";
import { Fields } from "./fields";

const PAGE = 100;
/** The pause before the next request while the log is being read, or Kafka is away, milliseconds. */
const AGAIN = 2000;

export function LogTab({ trial, turn }: TabProps) {
  const [order, setOrder] = useParam("order", choice(["newest", "oldest"], "newest"));
  const [kinds, setKinds] = useParam("kinds", text());
  const [known, setKnown] = useState<string[]>([]);
  const [pages, setPages] = useState<{ events: EventRow[]; cursor: string | null } | null>(null);
  const [error, setError] = useState<unknown>();
  const [asked, setAsked] = useState<{ cursor: string | null; turn: number }>({ cursor: null, turn: 0 });
  const path = `/trials/${encodeURIComponent(trial.uid)}/events`;

  useEffect(() => {
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    get<EventPage>(path, { kinds, order, limit: PAGE, cursor: asked.cursor }, control.signal).then(
      (page) => {
        setError(undefined);
        setKnown(page.kinds);
        setPages((before) => ({ events: asked.cursor && before ? [...before.events, ...page.events] : page.events, cursor: page.cursor }));
      },
      (caught: unknown) => {
        if (isAbort(caught)) return;
        // A long log takes several requests, each of which reads a part of it.
        if (!(caught instanceof Failure && caught.code === "too_many")) setError(caught);
        if (passing(caught)) timer = setTimeout(() => setAsked((before) => ({ ...before, turn: before.turn + 1 })), AGAIN);
      },
    );
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [path, kinds, order, asked]);
  const again = () => {
    setPages(null);
    setAsked((before) => ({ cursor: null, turn: before.turn + 1 }));
  };
  const chosen = kinds.split(",").filter(Boolean);
  const toggle = (kind: string) => {
    const next = chosen.includes(kind) ? chosen.filter((each) => each !== kind) : [...chosen, kind];
    setPages(null);
    setAsked({ cursor: null, turn: 0 });
    setKinds(next.join(","));
  };
  return (
    <section aria-label="Events">
      <div class="bar">
        <label>
          Order
          <select value={order} onChange={(event) => { setPages(null); setAsked({ cursor: null, turn: 0 }); setOrder(event.currentTarget.value as typeof order); }}>
            <option value="newest">newest first</option>
            <option value="oldest">oldest first</option>
          </select>
        </label>
        <span class="chips" role="group" aria-label="Kinds of events">
          {[...new Set([...known, ...chosen])].sort().map((kind) => (
            <button type="button" key={kind} aria-pressed={chosen.includes(kind)} onClick={() => toggle(kind)}>{cut(kind, 40)}</button>
          ))}
        </span>
        <span class="grow" />
        <button type="button" onClick={again}>{turn > 0 ? "Look again: there is more" : "Look again"}</button>
        {pages && <button type="button" onClick={() => downloadJson(`${trial.name}-events`, pages.events)}>Export JSON</button>}
      </div>
      {error !== undefined && <ErrorState error={error} retry={again} />}
      {pages === null && error === undefined && <Loading what="events of the log" />}
      {pages && pages.events.length === 0 && <Empty title="No such events">{chosen.length > 0 ? "The log has no event of these kinds for the trial." : "Kafka no longer has events of this trial: their retention has passed."}</Empty>}
      {pages && pages.events.length > 0 && (
        <div class="scroll" tabIndex={0}>
          <table class="plain events">
            <thead><tr><th scope="col">Time</th><th scope="col">Kind</th><th scope="col">Content</th><th scope="col">Writer</th><th scope="col" class="number">Seq</th><th scope="col" class="number">Offset</th></tr></thead>
            <tbody>{pages.events.map((each) => <Row key={`${each.partition}:${each.offset}`} event={each} />)}</tbody>
          </table>
        </div>
      )}
      {pages?.cursor && <p class="bar"><button type="button" onClick={() => setAsked({ cursor: pages.cursor, turn: 0 })}>{order === "newest" ? "Older events" : "Newer events"}</button> <span class="muted">{pages.events.length} shown</span></p>}
    </section>
  );
}

function Row({ event }: { event: EventRow }) {
  const [open, setOpen] = useState(false);
  const delay = (event.appended - event.time) / 1e6;
  return (
    <>
      <tr>
        <td class="nowrap"><Time micros={event.time} seconds /></td>
        <td><button type="button" class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "▾" : "▸"} {cut(event.kind, 40)}</button></td>
        <td class="content"><Name text={event.summary || "–"} limit={160} /></td>
        <td><code title={event.writer}>{cut(event.writer, 10)}</code></td>
        <td class="number">{event.seq}</td>
        <td class="number" title={`partition ${event.partition}, offset ${event.offset}`}>{event.partition}:{event.offset}</td>
      </tr>
      {open && (
        <tr class="opened">
          <td colSpan={6}>
            <p class="muted">In the log {duration(Math.max(0, delay))} after it was made, at <Time micros={event.appended} seconds />. Writer <code>{event.writer}</code>.</p>
            <Fields values={event.fields} empty="No fields" />
            <button type="button" class="plain" onClick={() => void navigator.clipboard?.writeText(full(event.fields))}>Copy as JSON</button>
          </td>
        </tr>
      )}
    </>
  );
}
