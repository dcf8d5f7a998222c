// What a trial is: parameters, metadata, tags, notes, attempts, writers; and how it differs from another.
import { useState } from "preact/hooks";
import { useAbout } from "../../about";
import { post, type TrialDetail } from "../../api";
import { cut } from "../../format";
import { Name, Num, Time, Val } from "../../values";
import type { TabProps } from "../trial";
import { Difference } from "./difference";
import { Fields } from "./fields";

export function OverviewTab({ trial, reload }: TabProps) {
  return (
    <>
      <div class="cards">
        <section class="card"><header><h2>Parameters</h2></header><Fields values={trial.parameters} /></section>
        <section class="card two"><header><h2>Metrics</h2></header><Metrics trial={trial} /></section>
        <section class="card"><header><h2>Metadata</h2></header><Fields values={trial.metadata} /></section>
        <section class="card"><header><h2>Tags</h2></header><Fields values={trial.tags} /><AddTag trial={trial} reload={reload} /></section>
        <section class="card">
          <header><h2>Notes</h2></header>
          {trial.notes.length === 0 ? <p class="muted">None</p> : trial.notes.map((each, i) => <p key={i} class="note"><bdi>{each.text.slice(0, 100_000)}</bdi></p>)}
          <AddNote trial={trial} reload={reload} />
        </section>
        <section class="card"><header><h2>Attempts</h2></header><Attempts trial={trial} /></section>
        <section class="card"><header><h2>Writers</h2></header><Writers trial={trial} /></section>
      </div>
      <Difference trial={trial} />
    </>
  );
}

function Metrics({ trial }: { trial: TrialDetail }) {
  if (trial.metrics.length === 0) return <p class="muted">None</p>;
  return (
    <div class="scroll bounded" tabIndex={0}>
      <table class="plain">
        <thead><tr><th scope="col">Name</th><th scope="col" class="number">Last</th><th scope="col" class="number">Min</th><th scope="col" class="number">Max</th><th scope="col" class="number">Mean</th><th scope="col" class="number">Rows</th><th scope="col" class="number">NaN, ±inf</th></tr></thead>
        <tbody>
          {trial.metrics.slice(0, 500).map((each) => (
            <tr key={each.name}>
              <th scope="row"><Name text={each.name} limit={40} /></th>
              <td class="number"><Val value={each.last} limit={20} /></td>
              <td class="number"><Num value={each.min} /></td>
              <td class="number"><Num value={each.max} /></td>
              <td class="number"><Num value={each.avg} /></td>
              <td class="number"><Num value={each.count + each.skipped + each.nan + each.inf + each.neginf} /></td>
              <td class="number">{each.nan + each.inf + each.neginf || ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Attempts({ trial }: { trial: TrialDetail }) {
  if (trial.attempts.length === 0) return <p class="muted">{trial.started === null ? "None: the trial has not been started" : "None: the trial was started without one"}</p>;
  return (
    <div class="scroll" tabIndex={0}>
      <table class="plain">
        <thead><tr><th scope="col">Attempt</th><th scope="col">Started</th><th scope="col" class="number">From step</th><th scope="col" class="number">World size</th></tr></thead>
        <tbody>
          {trial.attempts.map((each, i) => (
            <tr key={i}>
              <th scope="row"><Name text={each.key || String(i + 1)} limit={30} /></th>
              <td><Time micros={each.started} /></td>
              <td class="number"><Num value={each.resume_step} /></td>
              <td class="number"><Num value={each.world_size} /></td>
            </tr>
          ))}
        </tbody>
      </table>
      {trial.starts > trial.attempts.length && <p class="muted">{trial.starts} starts in all</p>}
    </div>
  );
}

function Writers({ trial }: { trial: TrialDetail }) {
  return (
    <>
      {trial.lost_events > 0 && <p class="notice">{trial.lost_events} events were lost between these writers and the log: gaps in their numbers.</p>}
      <div class="scroll" tabIndex={0}><table class="plain">
        <thead><tr><th scope="col">Writer</th><th scope="col" class="number">Events</th></tr></thead>
        <tbody>
          {trial.writers.slice(0, 500).map((each) => (
            <tr key={each.writer}><th scope="row"><code title={each.writer}>{cut(each.writer, 36)}</code></th><td class="number"><Num value={each.events} /></td></tr>
          ))}
        </tbody>
      </table></div>
      {trial.lost_events === 0 && <p class="muted">No event was lost.</p>}
    </>
  );
}

/** Whether this page may write, and a form's state: what is sent, and the error of the last try. */
function useSending(trial: TrialDetail, reload: () => void) {
  const writes = useAbout()?.writes ?? false;
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (what: "tags" | "notes", body: object): Promise<boolean> => {
    setBusy(true);
    try {
      await post(`/trials/${encodeURIComponent(trial.uid)}/${what}`, body);
      setError("");
      reload();
      return true;
    } catch (caught) {
      setError(caught instanceof Error ? caught.message : String(caught));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { writes, error, busy, send };
}

function AddTag({ trial, reload }: { trial: TrialDetail; reload: () => void }) {
  const { writes, error, busy, send } = useSending(trial, reload);
  if (!writes) return null;
  return (
    <form
      class="bar"
      onSubmit={(event) => {
        event.preventDefault();
        const form = event.currentTarget;
        const data = new FormData(form);
        const name = String(data.get("name")).trim();
        if (name) void send("tags", { tags: { [name]: String(data.get("value")) } }).then((sent) => sent && form.reset());
      }}
    >
      <input name="name" placeholder="tag" aria-label="Name of the tag" />
      <input name="value" placeholder="value" aria-label="Value of the tag" />
      <button disabled={busy}>Add tag</button>
      {error && <span class="alarm" role="alert">{error}</span>}
    </form>
  );
}

function AddNote({ trial, reload }: { trial: TrialDetail; reload: () => void }) {
  const { writes, error, busy, send } = useSending(trial, reload);
  if (!writes) return null;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        const form = event.currentTarget;
        const text = String(new FormData(form).get("text")).trim();
        if (text) void send("notes", { text }).then((sent) => sent && form.reset());
      }}
    >
      <textarea name="text" rows={2} placeholder="A note" aria-label="A note" />
      <button disabled={busy}>Add note</button>
      {error && <span class="alarm" role="alert">{error}</span>}
    </form>
  );
}
