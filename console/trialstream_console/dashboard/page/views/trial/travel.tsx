// Time travel: the trial as of a time of its log, by a slider, or played forward.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type TrialDetail } from "../../api";
import { Curves } from "../../charts/curves";
import { useFetched } from "../../fetched";
import { counted, cut, duration, utc, when } from "../../format";
import { choice, number, update, useParam } from "../../router";
import { Empty, Shown } from "../../states";
import { Name, Num, Status, Time, Val } from "../../values";
import type { TabProps } from "../trial";
import { Fields } from "./fields";
import { InView } from "./in-view";

interface Times { first: number | null; last: number | null; marks: { time: number; kind: string }[] }

/** How fast the log is played: times real time, or the whole within twenty seconds. */
const SPEEDS = ["1", "10", "100", "1000", "all"] as const;
const WHOLE = 20;
/** The time between two states while it plays, milliseconds: the server folds the trial's events for each. */
const FRAME = 250;
/** Charts of a state at most. */
const MOST_CHARTS = 12;

export function TravelTab({ trial }: TabProps) {
  const path = `/trials/${encodeURIComponent(trial.uid)}`;
  const answer = useFetched(`${path}/times`, (signal) => get<Times>(`${path}/times`, {}, signal));
  return (
    <Shown answer={answer} what="the times of the log">
      {(times) => (times.first === null || times.last === null
        ? <Empty title="The log has nothing of this trial any more">Its events are older than the retention of the topic. The other tabs show what the database has.</Empty>
        : <Travel trial={trial} path={path} first={times.first} last={Math.max(times.last, times.first + 1)} marks={times.marks} />)}
    </Shown>
  );
}

function Travel({ trial, path, first, last, marks }: { trial: TrialDetail; path: string; first: number; last: number; marks: Times["marks"] }) {
  const [addressed] = useParam("at", number(null));
  const [speed, setSpeed] = useParam("speed", choice(SPEEDS, "all"));
  const [at, setAt] = useState(Math.min(last, Math.max(first, addressed ?? last)));
  const [playing, setPlaying] = useState(false);
  const asked = useSettled(at, playing ? FRAME : 120);
  const state = useFetched(`${path}/at ${asked}`, (signal) => get<TrialDetail>(`${path}/at`, { time: asked }, signal), { keep: true });

  useEffect(() => {
    if (!playing) update({ at: at === last ? null : at }, { replace: true });
  }, [asked, playing]);
  useEffect(() => {
    if (!playing) return;
    const factor = speed === "all" ? (last - first) / (WHOLE * 1e6) : Number(speed);
    const timer = setInterval(() => setAt((before) => Math.min(last, Math.round(before + FRAME * 1000 * factor))), FRAME);
    return () => clearInterval(timer);
  }, [playing, speed, first, last]);
  useEffect(() => {
    if (at >= last) setPlaying(false);
  }, [at, last]);

  const moments = useMemo(() => [...new Set([first, ...marks.map((each) => each.time), last])].sort((a, b) => a - b), [first, last, marks]);
  const step = (by: 1 | -1) => {
    const next = by > 0 ? moments.find((each) => each > at) : [...moments].reverse().find((each) => each < at);
    if (next !== undefined) setAt(next);
  };
  const play = () => {
    if (!playing && at >= last) setAt(first);
    setPlaying(!playing);
  };
  return (
    <>
      <section class="card travel" aria-label="Time of the log">
        <div class="bar">
          <button type="button" class="primary" onClick={play}>{playing ? "Pause" : "Play"}</button>
          <button type="button" aria-label="The event before" title="The event before" onClick={() => step(-1)}>◂</button>
          <button type="button" aria-label="The event after" title="The event after" onClick={() => step(1)}>▸</button>
          <label>
            Speed
            <select value={speed} onChange={(event) => setSpeed(event.currentTarget.value as typeof speed)}>
              {SPEEDS.map((each) => <option key={each} value={each}>{each === "all" ? `all in ${WHOLE} s` : `× ${each}`}</option>)}
            </select>
          </label>
          <span class="grow" />
          <strong class="now" title={utc(at)}>{when(at, Date.now(), true)}</strong>
          <span class="muted">{duration((at - first) / 1e6)} of {duration((last - first) / 1e6)}</span>
        </div>
        <input
          type="range" class="slider" min={first} max={last} step={Math.max(1, Math.floor((last - first) / 1000))} value={at}
          aria-label="Time" aria-valuetext={`${when(at, Date.now(), true)}, ${duration((at - first) / 1e6)} after the first event`}
          onInput={(event) => { setPlaying(false); setAt(Number(event.currentTarget.value)); }}
        />
        <Marks marks={marks} first={first} last={last} onChoose={setAt} />
      </section>
      <Shown answer={state} what="the state">
        {(then) => <State then={then} now={trial} until={asked} />}
      </Shown>
    </>
  );
}

/** Events other than rows, below the slider. Their kinds are by text in the list that follows. */
function Marks({ marks, first, last, onChoose }: { marks: Times["marks"]; first: number; last: number; onChoose: (time: number) => void }) {
  const place = (time: number) => (100 * (time - first)) / (last - first);
  return (
    <>
      <svg class="marks" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
        {marks.map((each, i) => <path key={i} class={/fail|error/i.test(each.kind) ? "mark failed" : "mark"} d={`M${place(each.time)} 0V8`} />)}
      </svg>
      <details class="moments">
        <summary>{counted(marks.length, "event")} other than rows</summary>
        <ul>
          {marks.slice(0, 500).map((each, i) => (
            <li key={i}><button type="button" class="plain" onClick={() => onChoose(each.time)}><Time micros={each.time} seconds /> {cut(each.kind, 40)}</button></li>
          ))}
        </ul>
      </details>
    </>
  );
}

function State({ then, now, until }: { then: TrialDetail; now: TrialDetail; until: number }) {
  const metrics = now.metrics.slice(0, MOST_CHARTS);
  return (
    <div class="then">
      <div class="bar">
        <h2>As of then</h2>
        <Status status={then.status} />
        <span><Num value={then.rows} /> <span class="muted">of {counted(now.rows, "row")}</span></span>
        {then.errors.length > 0 && <span class="alarm">{counted(then.errors.length, "error")}: <Name text={then.errors[then.errors.length - 1]!.message} limit={80} /></span>}
      </div>
      <div class="multiples">
        {metrics.map(({ name }) => <Chart key={name} trial={now} name={name} last={then.metrics.find((each) => each.name === name)?.last ?? null} until={until} />)}
      </div>
      <div class="cards">
        <section class="card"><header><h2>Parameters then</h2></header><Fields values={then.parameters} /></section>
        <section class="card"><header><h2>Metadata then</h2></header><Fields values={then.metadata} /></section>
        <section class="card"><header><h2>Tags then</h2></header><Fields values={then.tags} /></section>
      </div>
    </div>
  );
}

function Chart({ trial, name, last, until }: { trial: TrialDetail; name: string; last: TrialDetail["metrics"][number]["last"]; until: number }) {
  const curves = useMemo(() => [{ trial: trial.uid, name }], [trial.uid, name]);
  return (
    <article class="card small" aria-label={cut(name, 100)}>
      <header><h3 class="grow"><Name text={name} limit={60} /></h3><strong class="value"><Val value={last} limit={24} /></strong></header>
      <InView height={150}>
        {() => <Curves title={name} curves={curves} x="step" started={trial.started ?? 0} until={until} height={150} view={null} onView={() => undefined} compact />}
      </InView>
    </article>
  );
}

/** A value that follows another at most every `milliseconds`, the last one included. */
function useSettled(value: number, milliseconds: number): number {
  const [settled, setSettled] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const timer = setTimeout(() => {
      last.current = performance.now();
      setSettled(value);
    }, Math.max(0, last.current + milliseconds - performance.now()));
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}
