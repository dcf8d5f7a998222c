// Several trials beside each other: chosen ones, or all that match a query.
import type { ColumnInfo } from "../api";
import { Bands } from "../compare/bands";
import { queryOf, useKnown, useSubject } from "../compare/compared";
import { Differences } from "../compare/differences";
import { Importance } from "../compare/importance";
import { Overlay } from "../compare/overlay";
import { Parallel } from "../compare/parallel";
import { Scatter } from "../compare/scatter";
import { Failure } from "../api";
import { counted } from "../format";
import { useShortcuts } from "../keyboard";
import { Tabs, useTitle } from "../parts";
import { choice, go, link, update, useParam } from "../router";
import { Empty, Shown } from "../states";
import { Filter } from "../table/filter";
import { scopeName, useNames } from "../table/scope";
import { Name } from "../values";

/** What each way of comparison is given: the trials as a query, and what they have. */
export interface ViewProps {
  query: string;
  known: readonly ColumnInfo[];
}

const VIEWS = ["overlay", "bands", "parallel", "scatter", "importance", "table"] as const;
type View = (typeof VIEWS)[number];

const NAMES: Record<View, string> = {
  overlay: "Curves", bands: "Bands", parallel: "Parallel coordinates", scatter: "Scatter", importance: "Importance", table: "Differences",
};

const SHOWN: Record<View, (props: ViewProps) => preact.JSX.Element> = {
  overlay: Overlay, bands: Bands, parallel: Parallel, scatter: Scatter, importance: Importance, table: Differences,
};

export function CompareView() {
  const subject = useSubject();
  const [view] = useParam("view", choice(VIEWS, "overlay"));
  const names = useNames();
  const query = queryOf(subject);
  const known = useKnown(query);
  const scope = { project: subject.project || undefined, group: subject.group || undefined };
  useTitle(`Compare: ${NAMES[view]}`);
  // What concerns the trials stays; what concerns one way of comparison only does not go to another.
  const address = (next: View): string => link("/compare", { ...subject, view: next === "overlay" ? null : next });
  useShortcuts(VIEWS.map((each, index) => ({ keys: String(index + 1), does: `Compare by: ${NAMES[each]}`, action: () => go(address(each)) })));
  const wrong = known.error instanceof Failure && known.error.code === "query" ? known.error : undefined;
  const Shape = SHOWN[view];
  const back = scope.group ? `/groups/${encodeURIComponent(scope.group)}` : scope.project ? `/projects/${encodeURIComponent(scope.project)}` : "/trials";
  return (
    <div class="compare">
      <div class="title">
        <nav class="crumbs" aria-label="Place"><a href={link(back, { where: subject.where })}><Name text={scopeName(scope, names)} limit={60} /></a></nav>
        <h1>Compare</h1>
        <span class="muted">{subject.trials.length ? counted(subject.trials.length, "chosen trial") : "all trials that match"}</span>
      </div>
      {subject.trials.length === 0 && <Filter where={subject.where} error={wrong && { message: wrong.message }} scope={scope} onWhere={(where) => update({ where })} />}
      <Tabs label="Ways of comparison" tabs={VIEWS.map((each) => [each, NAMES[each]] as const)} shown={view} address={address} />
      {!wrong && <Shown answer={known} what="columns">{(data) => (data.columns.some((each) => each.count > 0)
        ? <Shape key={view} query={query} known={data.columns} />
        : <Empty title="No trials">{subject.trials.length ? "The chosen trials do not exist." : subject.where ? "No trial matches the filter." : "None has been logged yet."}</Empty>)}</Shown>}
    </div>
  );
}
