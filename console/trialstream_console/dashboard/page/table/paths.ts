// Paths of columns, such as `parameters.lr` or `metrics.train/loss.last`: their parts, and how a heading shows them.
import type { ColumnInfo } from "../shapes";

/** The parts of a path; a dot after a backslash belongs to the part. */
export function parts(path: string): string[] {
  const found: string[] = [];
  let part = "";
  for (let at = 0; at < path.length; at++) {
    const character = path[at]!;
    if (character === "\\" && at + 1 < path.length) part += path[++at]!;
    else if (character === ".") {
      found.push(part);
      part = "";
    } else part += character;
  }
  return [...found, part];
}

/** A part as it stands in a path. */
export function escaped(part: string): string {
  return part.replace(/[\\.]/g, "\\$&");
}

const KINDS: Record<string, string> = {
  parameters: "parameter", metrics: "metric", chronos: "chrono", tags: "tag", metadata: "metadata",
};

const FIELDS: Record<string, string> = {
  created: "Created", started: "Started", finished: "Finished", last_seen: "Last seen", status: "Status", name: "Name",
  project_id: "Project", group_id: "Group", lost_events: "Lost events", rows: "Rows", starts: "Starts", uid: "Uid",
  description: "Description", version: "Version",
};

/** A path for the eye: the small line above a heading, and the heading. */
export function heading(path: string): { over: string; label: string } {
  const [root = "", ...rest] = parts(path);
  const kind = KINDS[root];
  if (kind === undefined || rest.length === 0) return { over: "", label: FIELDS[path] ?? path };
  if ((root === "metrics" || root === "chronos") && rest.length > 1) {
    return { over: rest.at(-1)!, label: rest.slice(0, -1).join(".") };
  }
  return { over: kind, label: rest.join(".") };
}

const ORDER = ["parameter", "metric", "tag", "metadata", "chrono"];

/** The columns in the order in which a reader looks for them: named fields, logged values, then the fields that hold these. */
export function ordered(columns: readonly ColumnInfo[]): ColumnInfo[] {
  const place = ({ kind, path }: ColumnInfo): number => (kind !== "field" ? ORDER.indexOf(kind) + 1 : path in FIELDS ? 0 : ORDER.length + 1);
  return [...columns].sort((a, b) => place(a) - place(b));
}

const TIMES = new Set(["created", "started", "finished", "last_seen"]);

export function isTime(path: string, info?: ColumnInfo): boolean {
  return info ? info.type === "time" : TIMES.has(path);
}

/** Whether a metric is one of the machine, which the tracker captures by itself. */
export function isCaptured(metric: string): boolean {
  return /^(system|event_loop)\//.test(metric);
}

/** The columns of a table whose reader has chosen none: times, then what most trials have. */
export function defaults(columns: readonly ColumnInfo[]): string[] {
  const most = (kind: ColumnInfo["kind"], count: number, fits: (path: string) => boolean = () => true): string[] =>
    columns.filter((each) => each.kind === kind && fits(each.path)).slice(0, count).map((each) => each.path);
  return [
    "created",
    ...most("metric", 4, (path) => parts(path).at(-1) === "last" && !isCaptured(path.slice("metrics.".length))),
    ...most("parameter", 6),
    ...most("tag", 2),
  ];
}

/** The paths of what has been asked for, without those that are not paths of columns; each once. */
export function chosen(paths: readonly string[]): string[] {
  return [...new Set(paths.filter((each) => each !== "" && each !== "name" && each !== "status"))];
}

export interface Sort { path: string; descending: boolean }

/** "-created" as its path and direction. */
export function sortOf(text: string): Sort {
  return text.startsWith("-") ? { path: text.slice(1), descending: true } : { path: text, descending: false };
}

/** The sort after a click on a heading: ascending, descending, none. `add` keeps the others. */
export function sorted(before: readonly string[], path: string, add: boolean): string[] {
  const was = before.find((each) => sortOf(each).path === path);
  const next = was === undefined ? path : was.startsWith("-") ? null : `-${path}`;
  const others = add ? before.filter((each) => sortOf(each).path !== path) : [];
  return next === null ? others : [...others, next];
}

/** Widths of columns in the address: `path:120`. */
export function widthsOf(texts: readonly string[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const each of texts) {
    const at = each.lastIndexOf(":");
    const width = Number(each.slice(at + 1));
    if (at > 0 && Number.isFinite(width)) found.set(each.slice(0, at), Math.min(900, Math.max(48, Math.round(width))));
  }
  return found;
}

export function withWidth(widths: ReadonlyMap<string, number>, path: string, width: number): string[] {
  return [...new Map(widths).set(path, Math.min(900, Math.max(48, Math.round(width))))].map(([name, its]) => `${name}:${its}`);
}
