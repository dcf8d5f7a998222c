// The head of a trial: what it is, how it is, since when.
import { useMemo } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { TrialDetail } from "../../api";
import { cut, duration } from "../../format";
import { link } from "../../router";
import { scopeName, useNames } from "../../table/scope";
import { phase, Duration, Name, Num, Status, Time } from "../../values";

export function Head({ trial }: { trial: TrialDetail }) {
  const { created, started, finished, last_seen, attempts, rows, lost_events, errors } = trial;
  const end = finished ?? last_seen;
  const ranks = useMemo(() => new Set(trial.participants.map((each) => each.rank).filter((each) => each !== null)).size, [trial.participants]);
  const running = phase(trial.status) === "running";
  const names = useNames();
  return (
    <header class="trial-head">
      <p class="crumbs">
        {trial.project && <a href={`/projects/${encodeURIComponent(trial.project)}`}><Name text={scopeName({ project: trial.project }, names)} limit={60} /></a>}
        {trial.group && <a href={`/groups/${encodeURIComponent(trial.group)}`}><Name text={scopeName({ group: trial.group }, names)} limit={60} /></a>}
        <a href={link("/trials", { where: `name = ${JSON.stringify(trial.name)}` })}>Trials of this name</a>
        <code title={trial.uid}>{cut(trial.uid, 24)}</code>
      </p>
      <div class="name">
        <h1><Name text={trial.name} /></h1>
        <Status status={trial.status} />
        <span class="grow" />
        <a class="button" href={link("/compare", { trials: [trial.uid] })}>Compare</a>
      </div>
      {trial.description && <p class="description"><Name text={trial.description} limit={400} /></p>}
      <dl class="facts">
        <Fact name={started === null ? "Created" : "Started"}><Time micros={started ?? created} /></Fact>
        {started !== null && end !== null && <Fact name={finished !== null ? "Took" : trial.status.lost ? "Ran at least" : "Running for"}><Duration seconds={(end - started) / 1e6} /></Fact>}
        {finished !== null ? <Fact name="Finished"><Time micros={finished} /></Fact> : <Fact name="Last event"><Time micros={last_seen} relative={running || trial.status.lost} /></Fact>}
        <Fact name="Rows"><Num value={rows} /></Fact>
        {attempts.length > 1 && <Fact name="Attempts">{attempts.length}</Fact>}
        {ranks > 1 && <Fact name="Ranks"><a href={link(path(trial), { tab: "ranks" })}>{ranks}</a></Fact>}
        {trial.version && <Fact name="Version"><Name text={trial.version} limit={24} /></Fact>}
        {lost_events > 0 && <Fact name="Lost events" alarm><a href={link(path(trial), { tab: "overview" })}>{lost_events}</a></Fact>}
      </dl>
      {trial.status.lost && last_seen !== null && (
        <p class="notice" role="status">No event for {duration(Date.now() / 1000 - last_seen / 1e6)}, though the trial has not ended: its process may have died, or its host lost the network.</p>
      )}
      {errors.length > 0 && <Errors trial={trial} />}
    </header>
  );
}

function Fact({ name, alarm, children }: { name: string; alarm?: boolean; children: ComponentChildren }) {
  return <div class={alarm ? "alarm" : undefined}><dt>{name}</dt><dd>{children}</dd></div>;
}

function Errors({ trial }: { trial: TrialDetail }) {
  const { errors, errors_dropped } = trial;
  return (
    <section class="errors" aria-label="Errors">
      {errors.map((each, i) => (
        <details key={i}>
          <summary>
            <strong><Name text={each.type} limit={80} /></strong> <Name text={each.message} limit={300} />
            {each.time !== null && <span class="muted"> <Time micros={each.time} /></span>}
          </summary>
          <pre tabIndex={0} aria-label="Traceback"><bdi>{each.traceback || each.message}</bdi></pre>
        </details>
      ))}
      {errors_dropped > 0 && <p class="muted">and {errors_dropped} more, which the trial does not keep; its log does</p>}
    </section>
  );
}

function path(trial: TrialDetail): string {
  return `/trials/${encodeURIComponent(trial.uid)}`;
}
