// The table of trials: all, or those of a project or a group.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Failure, get, type Columns, type TrialTable } from "../api";
import { useFetched, useThrottled } from "../fetched";
import { counted, cut, numeric } from "../format";
import { useShortcuts } from "../keyboard";
import { useLive } from "../live";
import { useTitle } from "../parts";
import { go, link, list, text, update, useParam } from "../router";
import { Empty, ErrorState, Loading, Stale } from "../states";
import { moved } from "../table/chooser";
import { Cell, GroupHeading } from "../table/cells";
import { Filter } from "../table/filter";
import { Grid, type GridColumn } from "../table/grid";
import { groupsOf, Lines, type Group } from "../table/layout";
import { defaults, heading, sorted, sortOf, widthsOf, withWidth } from "../table/paths";
import { firstColumns, orderOf } from "../table/question";
import { useRows } from "../table/rows";
import { isUnknown, ScopeTitle, scopeName, useNames, type Scope } from "../table/scope";
import { ranged, toggled, type Selection } from "../table/selecting";
import { COMPARED, SelectionBar } from "../table/selection";
import { Toolbar } from "../table/toolbar";
import { Status } from "../values";

const GROUPED = 10_000; // trials whose groups are known before their rows are loaded
const AGAIN = 1000; // between loads of rows that change, milliseconds
const NONE: Group[] = [];

export function TrialsView(scope: Scope) {
  // Rows come first: what else the page shows is asked for after them, since a server answers in turn.
  const [begun, setBegun] = useState(false);
  const names = useNames(begun);
  const [where] = useParam("where", text());
  const [asked] = useParam("columns", list);
  const [sortTexts] = useParam("sort", list);
  const [by] = useParam("by", text());
  const [closed] = useParam("closed", list);
  const [widthTexts] = useParam("widths", list);
  const [selection, setSelection] = useState<Selection>(new Map());
  const anchor = useRef<number | null>(null);
  useTitle(scopeName(scope, names));

  const known = useFetched(begun || !asked.length ? `columns ${JSON.stringify([where, scope])}` : null, (signal) => get<Columns>("/columns", { where, ...scope }, signal), { keep: true });
  const infos = useMemo(() => new Map(known.data?.columns.map((each) => [each.path, each])), [known.data]);
  const paths = useMemo(() => {
    return !asked.length && known.data ? defaults(known.data.columns) : firstColumns(asked);
  }, [asked, known.data]);
  const sort = useMemo(() => sortTexts.map(sortOf), [sortTexts]);
  const order = orderOf(sortTexts, by);
  const question = { where, project: scope.project, group: scope.group, columns: paths, sort: order };
  const rows = useRows(question);
  useEffect(() => setBegun((before) => before || rows.total !== undefined || rows.error !== undefined), [rows.total, rows.error]);

  const grouping = useFetched(
    by ? `groups ${JSON.stringify([where, scope, order])}` : null,
    (signal) => get<TrialTable>("/trials", { where, ...scope, columns: [by], sort: order, limit: GROUPED }, signal),
  );
  const groups = useMemo(() => (by && grouping.data ? groupsOf(grouping.data.values[0] ?? []) : NONE), [by, grouping.data]);
  const lines = useMemo(() => new Lines(rows.total ?? 0, groups, new Set(closed)), [rows.total, groups, closed]);

  const again = useThrottled(() => rows.changed(), AGAIN);
  const regroup = useThrottled(grouping.reload, 5 * AGAIN);
  const change = (): void => {
    again();
    if (by) regroup();
  };
  useLive(rows.cursor === undefined ? null : { ...scope, since: rows.cursor }, { trials: change, reset: change });

  const widths = useMemo(() => widthsOf(widthTexts), [widthTexts]);
  const columns: GridColumn[] = [{ path: "status", width: widths.get("status") ?? 132, numeric: false }];
  for (const path of paths) {
    const number = infos.get(path)?.type === "number" || (!infos.has(path) && numeric(rows.value(0, path)) !== null);
    columns.push({ path, width: widths.get(path) ?? usualWidth(path, number), numeric: number });
  }
  const settle = (next: string[]): void => update({ columns: next });

  const rowAt = (index: number) => {
    const line = lines.at(index);
    return line.kind === "trial" ? rows.row(line.row) : undefined;
  };
  const select = (index: number, range: boolean): void => {
    const row = rowAt(index);
    if (!row) return;
    if (range && anchor.current !== null) {
      const [from, to] = [Math.min(anchor.current, index), Math.max(anchor.current, index)];
      const between = [];
      for (let at = from; at <= to; at++) between.push(rowAt(at));
      const known = between.filter((each) => each !== undefined);
      setSelection((before) => ranged(before, known, true));
    } else {
      setSelection((before) => toggled(before, row.uid, row.name));
      anchor.current = index;
    }
  };
  const fold = (group: Group): void => {
    update({ closed: closed.includes(group.key) ? closed.filter((each) => each !== group.key) : [...closed, group.key] }, { replace: true });
  };
  const keyed = (event: KeyboardEvent, index: number): boolean => {
    const line = lines.count > index ? lines.at(index) : undefined;
    if (!line) return false;
    if (event.key === "Extend") {
      anchor.current ??= Math.max(0, index - 1);
      select(index, true);
    } else if (line.kind === "group" && (event.key === "Enter" || event.key === " ")) fold(line.group);
    else if (event.key === " " || event.key === "x") select(index, event.shiftKey);
    else if (event.key === "Enter") {
      const row = rowAt(index);
      if (row) go(link(`/trials/${encodeURIComponent(row.uid)}`));
    } else if (event.key === "Escape" && selection.size) setSelection(new Map());
    else return false;
    return true;
  };
  useShortcuts([
    { keys: "f", does: "Go to the filter", action: () => document.querySelector<HTMLInputElement>(".filter input")?.focus() },
    { keys: "ArrowDown", does: "Go to the table; arrows move, Enter opens", action: () => document.querySelector<HTMLElement>(".datagrid")?.focus() },
    { keys: "x", does: "Select the row (Space too; Shift for many)", action: () => document.querySelector<HTMLElement>(".datagrid")?.focus() },
    { keys: "c", does: "Compare the selected trials", action: () => selection.size > 1 && selection.size <= COMPARED && go(link("/compare", { trials: [...selection.keys()] })) },
  ]);

  const wrong = rows.error instanceof Failure && rows.error.code === "query" ? rows.error : undefined;
  const detail = rows.total === undefined ? "" : counted(rows.total, "trial");
  return (
    <div class="trials">
      <ScopeTitle scope={scope} names={names} detail={detail} />
      <div class="top">
        <Filter where={where} error={wrong} scope={scope} onWhere={(next) => update({ where: next })} />
        <Toolbar {...{ scope, question, by, paths, known: known.data?.columns ?? [], total: rows.total ?? 0 }} name={scopeName(scope, names)} />
      </div>
      <SelectionBar selection={selection} clear={() => setSelection(new Map())} changed={() => rows.changed()} />
      {rows.total !== undefined && rows.error !== undefined && !wrong && <Stale error={rows.error} retry={rows.reload} />}
      {rows.total === undefined ? (
        rows.error === undefined ? <Loading what="trials" /> : !wrong && <ErrorState error={rows.error} retry={rows.reload} />
      ) : rows.total === 0 ? (
        <NoTrials filtered={where !== ""} unknown={isUnknown(scope, names) ? (scope.group ? "group" : "project") : null} />
      ) : (
        <Grid
          label={`Trials: ${scopeName(scope, names).slice(0, 200)}`}
          count={lines.count}
          columns={columns}
          nameWidth={widths.get("name") ?? (innerWidth < 640 ? 168 : 250)}
          sort={sort}
          busy={rows.loading}
          onSort={(path, add) => update({ sort: sorted(sortTexts, path, add) })}
          onWidth={(path, width) => update({ widths: withWidth(widths, path, width) }, { replace: true })}
          onMove={(path, by) => settle(moved(paths, path, by))}
          onView={(first, count) => {
            const shown = Array.from({ length: count }, (_, index) => lines.at(first + index)).flatMap((each) => (each.kind === "trial" ? [each.row] : []));
            if (shown.length) rows.show(shown[0]!, shown.at(-1)! - shown[0]! + 1);
          }}
          onKey={keyed}
          onLine={(event, index) => {
            if ((event.target as Element).closest("a, button")) return;
            if (event.shiftKey || (event.target as Element).closest("input, .lead")) select(index, event.shiftKey);
          }}
          leadHead={<button type="button" class="plain" onClick={(event) => update({ sort: sorted(sortTexts, "name", event.shiftKey) })}><span class="label">Name{arrow(sort.find((each) => each.path === "name"))}</span></button>}
          line={(index) => {
            const line = lines.at(index);
            if (line.kind === "group") {
              return { heading: true, lead: <GroupHeading path={by} group={line.group} closed={line.closed} names={names} fold={() => fold(line.group)} /> };
            }
            const row = rows.row(line.row);
            if (!row) return { lead: <span class="pending" aria-label="Loading" />, cell: () => null };
            const on = selection.has(row.uid);
            return {
              selected: on,
              lead: (
                <>
                  <input type="checkbox" tabIndex={-1} checked={on} aria-label={`Select ${cut(row.name, 60)}`} onClick={(event) => event.currentTarget.checked = on} />
                  <a tabIndex={-1} href={link(`/trials/${encodeURIComponent(row.uid)}`)} title={cut(row.name, 2000)}><bdi>{cut(row.name, 160) || row.uid}</bdi></a>
                </>
              ),
              cell: (path) => (path === "status" ? <Status status={row.status} /> : <Cell path={path} info={infos.get(path)} value={rows.value(line.row, path)} names={names} />),
            };
          }}
        />
      )}
    </div>
  );
}

/** Enough for the heading, within bounds. */
function usualWidth(path: string, number: boolean): number {
  const { label } = heading(path);
  return Math.max(number ? 104 : 124, Math.min(190, 36 + Math.round(label.length * 7.2)));
}

function arrow(sort: { descending: boolean } | undefined): string {
  return sort ? (sort.descending ? " ↓" : " ↑") : "";
}

function NoTrials({ filtered, unknown }: { filtered: boolean; unknown: string | null }) {
  return unknown ? (
    <Empty title={`There is no such ${unknown}`}>Go to the <a href="/">projects</a> or to <a href="/trials">all trials</a>.</Empty>
  ) : filtered ? (
    <Empty title="No trial matches the filter"><button type="button" onClick={() => update({ where: null })}>Clear the filter</button></Empty>
  ) : (
    <Empty title="No trials yet">A trial appears here as soon as it is logged: <code>ts.track("first", project="digits")</code>.</Empty>
  );
}
