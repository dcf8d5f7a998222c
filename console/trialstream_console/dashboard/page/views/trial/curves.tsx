// The metrics of a trial: a tree of names, small charts of all, one chart large.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { MetricInfo, TrialDetail } from "../../api";
import { Curves } from "../../charts/curves";
import { specialsOf } from "../../charts/notes";
import type { Range } from "../../charts/types";
import { counted, cut } from "../../format";
import { useShortcuts } from "../../keyboard";
import { list, text, update, useParam } from "../../router";
import { Empty } from "../../states";
import { Name, Num } from "../../values";
import type { TabProps } from "../trial";
import { Controls, useLook, type Look } from "./controls";
import { InView } from "./in-view";
import type { LiveRows } from "./live-rows";
import { below, treeOf, type Folder } from "./tree";
import { useView } from "./use-view";

const SMALL = 150;
const LARGE = 360;

export function CurvesTab({ trial, rows }: TabProps) {
  const look = useLook();
  const [view, setView] = useView();
  const [find, setFind] = useParam("find", text());
  const [under] = useParam("under", text());
  const [large] = useParam("metric", list);
  const search = useRef<HTMLInputElement>(null);
  useShortcuts([{ keys: "f", does: "Search the metrics", action: () => search.current?.focus() }]);
  const names = useMemo(() => trial.metrics.map((each) => each.name), [trial.metrics]);
  const tree = useMemo(() => treeOf(trial.metrics), [trial.metrics]);
  const found = useMemo(() => matching(trial.metrics, find, under), [trial.metrics, find, under]);
  const sections = useMemo(() => {
    const root = treeOf(found);
    return [{ path: "", leaves: root.leaves }, ...root.folders.map((each) => ({ path: each.path, leaves: below(each) }))].filter((each) => each.leaves.length > 0);
  }, [found]);
  if (trial.metrics.length === 0) {
    return <Empty title="No metrics yet">They appear here with the first <code>{"t.log({\"loss\": 0.3}, step=0)"}</code>.</Empty>;
  }
  return (
    <div class="with-side">
      <aside>
        <input ref={search} type="search" value={find} placeholder="Search metrics" aria-label="Search metrics" onInput={(event) => setFind(event.currentTarget.value, { replace: true })} />
        <details class="tree" open={innerWidth > 900}>
          <summary>{counted(trial.metrics.length, "metric")}</summary>
          <Branch folder={tree} under={under} large={large} />
        </details>
      </aside>
      <div class="main">
        <Controls look={look} length={lengthOf(trial, look)} metrics={names} manyAttempts={trial.attempts.length > 1} />
        {large.length > 0 && <Large trial={trial} names={large} look={look} rows={rows} view={view} onView={setView} />}
        {found.length === 0 && <Empty title="No metric has such a name"><button type="button" onClick={() => update({ find: null, under: null })}>Show all</button></Empty>}
        {sections.map((section) => (
          <section key={section.path} aria-label={section.path || "Metrics"}>
            {section.path && <h2 class="folder"><Name text={section.path} limit={100} /></h2>}
            <div class="multiples">
              {section.leaves.map((leaf) => (
                <Small key={leaf.value.name} trial={trial} metric={leaf.value} label={leaf.name} large={large} look={look} rows={rows} view={view} onView={setView} />
              ))}
            </div>
          </section>
        ))}
      </div>
    </div>
  );
}

interface Shared {
  trial: TrialDetail;
  look: Look;
  rows: LiveRows;
  view: Range | null;
  onView: (view: Range | null) => void;
}

function Large({ trial, names, look, rows, view, onView }: Shared & { names: readonly string[] }) {
  const curves = useMemo(() => names.map((name) => ({ trial: trial.uid, name })), [trial.uid, names.join("\u0000")]);
  const live = useMemo(() => rows.of(names), [rows, names.join("\u0000")]);
  const title = names.map((each) => cut(each, 60)).join(", ");
  const top = useRef<HTMLElement>(null);
  useEffect(() => top.current?.scrollIntoView({ block: "nearest" }), [names[0]]);
  return (
    <section class="card large" aria-label={title} ref={top}>
      <header>
        <h2><bdi>{title}</bdi></h2>
        <button type="button" class="plain" aria-label="Close the large chart" title="Close" onClick={() => update({ metric: null })}>✕</button>
      </header>
      <Curves title={title} curves={curves} rows={live} started={trial.started ?? trial.created ?? 0} height={LARGE} view={view} onView={onView} {...look} />
    </section>
  );
}

function Small({ trial, metric, label, large, look, rows, view, onView }: Shared & { metric: MetricInfo; label: string; large: readonly string[] }) {
  const { name } = metric;
  const curves = useMemo(() => [{ trial: trial.uid, name }], [trial.uid, name]);
  const live = useMemo(() => rows.of([name]), [rows, name]);
  const isLarge = large.includes(name);
  const special = metric.nan + metric.inf + metric.neginf;
  return (
    <article class="card small" aria-label={cut(name, 100)}>
      <header>
        <button type="button" class="plain grow" title={`${cut(name, 500)}\nShow large`} onClick={() => update({ metric: [name] })}>
          <h3><bdi>{cut(label, 60)}</bdi></h3>
        </button>
        {special > 0 && <span class="badge" title={specialsOf([metric]).join(", ")}>{special} {[metric.nan > 0 && "NaN", metric.inf + metric.neginf > 0 && "inf"].filter(Boolean).join(", ")}</span>}
        <strong class="value"><Num value={metric.last} /></strong>
        {large.length > 0 && (
          <button
            type="button" class="plain" aria-pressed={isLarge}
            aria-label={isLarge ? `Take ${cut(name, 60)} out of the large chart` : `Add ${cut(name, 60)} to the large chart`}
            onClick={() => update({ metric: isLarge ? large.filter((each) => each !== name) : [...large, name] })}
          >{isLarge ? "−" : "+"}</button>
        )}
      </header>
      <InView height={SMALL}>
        {() => <Curves title={name} curves={curves} rows={live} started={trial.started ?? trial.created ?? 0} height={SMALL} view={view} onView={onView} compact {...look} />}
      </InView>
    </article>
  );
}

/** Leaves of a folder that the tree lists; the search finds the others. */
const MOST_LEAVES = 100;

function Branch({ folder, under, large }: { folder: Folder<MetricInfo>; under: string; large: readonly string[] }) {
  return (
    <ul>
      {folder.folders.map((each) => <Twig key={each.path} folder={each} under={under} large={large} />)}
      {folder.leaves.slice(0, MOST_LEAVES).map(({ name, value }) => (
        <li key={value.name}>
          <button type="button" class="plain leaf" aria-pressed={large.includes(value.name)} title={cut(value.name, 500)} onClick={() => update({ metric: [value.name] })}>
            <bdi>{cut(name, 40)}</bdi>
            <Num value={value.last} />
          </button>
        </li>
      ))}
      {folder.leaves.length > MOST_LEAVES && <li class="muted">and {folder.leaves.length - MOST_LEAVES} more</li>}
    </ul>
  );
}

function Twig({ folder, under, large }: { folder: Folder<MetricInfo>; under: string; large: readonly string[] }) {
  const [open, setOpen] = useState(folder.count <= 12 || under.startsWith(folder.path));
  const chosen = under === folder.path;
  return (
    <li>
      <span class="twig">
        <button type="button" class="plain fold" aria-expanded={open} aria-label={`${open ? "Close" : "Open"} ${cut(folder.path, 60)}`} onClick={() => setOpen(!open)}>{open ? "▾" : "▸"}</button>
        <button type="button" class="plain leaf" aria-pressed={chosen} title={`Only ${cut(folder.path, 200)}`} onClick={() => update({ under: chosen ? null : folder.path })}>
          <bdi>{cut(folder.name, 40)}/</bdi>
          <span class="muted">{folder.count}</span>
        </button>
      </span>
      {open && <Branch folder={folder} under={under} large={large} />}
    </li>
  );
}

/** The metrics whose names have all words of a search, within a folder. */
export function matching(metrics: readonly MetricInfo[], find: string, under: string): MetricInfo[] {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  return metrics.filter(({ name }) => name.startsWith(under) && words.every((word) => name.toLowerCase().includes(word)));
}

/** The extent of x that the smoothing is chosen for: steps, or seconds. */
function lengthOf(trial: TrialDetail, look: Look): number {
  if (look.x === "step") {
    const steps = trial.metrics.map((each) => (typeof each.last_step === "number" ? each.last_step : each.count));
    return Math.max(0, ...steps);
  }
  const from = trial.started ?? trial.created ?? 0;
  return Math.max(0, ((trial.last_seen ?? from) - from) / 1e6);
}
