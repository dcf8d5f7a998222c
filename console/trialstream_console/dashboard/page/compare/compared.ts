// Which trials a comparison is about, as a query, and what they have.
import { useMemo } from "preact/hooks";
import { get, type ColumnInfo, type Columns, type TrialTable } from "../api";
import { useFetched, type Fetched } from "../fetched";
import { list, text, useParam } from "../router";
import { escaped, isCaptured, parts } from "../table/paths";

export interface Subject {
  trials: readonly string[];
  where: string;
  project: string;
  group: string;
}

/** What the address says to compare. */
export function useSubject(): Subject {
  const [trials] = useParam("trials", list);
  const [where] = useParam("where", text());
  const [project] = useParam("project", text());
  const [group] = useParam("group", text());
  return { trials, where, project, group };
}

/** The subject as one query. */
export function queryOf({ trials, where, project, group }: Subject): string {
  const conditions: string[] = [];
  if (trials.length) conditions.push(`uid in (${trials.map((each) => JSON.stringify(each)).join(", ")})`);
  if (project) conditions.push(`project_id = ${JSON.stringify(project)}`);
  if (group) conditions.push(`group_id = ${JSON.stringify(group)}`);
  if (where.trim()) conditions.push(`(${where})`);
  return conditions.join(" and ");
}

export function useKnown(where: string): Fetched<Columns> {
  return useFetched(`compare columns ${where}`, (signal) => get<Columns>("/columns", { where }, signal));
}

/** The compared trials with some columns, the latest first. */
export function useTable(where: string, columns: readonly string[], limit: number): Fetched<TrialTable> {
  return useFetched(
    `compare ${JSON.stringify([where, columns, limit])}`,
    (signal) => get<TrialTable>("/trials", { where, columns, limit }, signal),
    { keep: true },
  );
}

/** The name of the metric of a path such as `metrics.train/loss.last`. */
export function metricName(path: string): string {
  return parts(path).slice(1, -1).join(".");
}

/** The names of the metrics that have a path among the columns, each once. */
export function metricNames(columns: readonly ColumnInfo[]): string[] {
  return [...new Set(columns.filter((each) => each.kind === "metric").map((each) => metricName(each.path)))];
}

export function lastOf(metric: string): string {
  return `metrics.${escaped(metric)}.last`;
}

/** The metric that a comparison begins with: a loss of a validation, a loss, or the first that is not of the machine. */
export function firstMetric(names: readonly string[]): string | undefined {
  return names.find((each) => /val.*loss/i.test(each)) ?? names.find((each) => /loss/i.test(each)) ?? names.find((each) => !isCaptured(each)) ?? names[0];
}

/** Numbers and texts by which trials can be told apart: parameters first, then metrics, tags. */
export function useAxes(known: readonly ColumnInfo[]): { parameters: string[]; metrics: string[]; all: string[] } {
  return useMemo(() => {
    const of = (...kinds: ColumnInfo["kind"][]): string[] => known.filter((each) => kinds.includes(each.kind)).map((each) => each.path);
    const parameters = of("parameter");
    const metrics = of("metric");
    return { parameters, metrics, all: [...parameters, ...metrics, ...of("tag", "chrono")] };
  }, [known]);
}
