// What a table of trials asks for: by the address of its page, and the addresses of its answers.
import { link } from "../address";
import { chosen, sortOf } from "./paths";

export interface Question {
  where: string;
  project?: string;
  group?: string;
  columns: readonly string[];
  sort: readonly string[];
}

/** Rows of an answer. */
export const WINDOW = 200;

/** The address of the rows of a window, within the API. */
export function windowAddress({ where, project, group, columns, sort }: Question, window: number): string {
  return link("/trials", { where, project, group, columns, sort, limit: WINDOW, offset: window * WINDOW });
}

/** The columns of a table before those that its trials have are known: what the address names, or little. */
export function firstColumns(asked: readonly string[]): string[] {
  return asked.length ? chosen(asked) : ["created"];
}

/** The sort of a table: groups first. */
export function orderOf(sort: readonly string[], by: string): readonly string[] {
  return by ? [by, ...(sort.length ? sort.filter((each) => sortOf(each).path !== by) : ["-created"])] : sort;
}

/** The first request of the page of a trial or a table, within the API; null for other pages. */
export function firstRequest(path: string, query: URLSearchParams): string | null {
  const [, kind, encoded = ""] = path.split("/");
  const uid = decodeURIComponent(encoded);
  if (kind === "trials" && uid) return `/trials/${encodeURIComponent(uid)}`;
  let scope = {};
  if (kind === "projects" && uid) scope = { project: uid };
  else if (kind === "groups" && uid) scope = { group: uid };
  else if (kind !== "trials") return null;
  const sort = orderOf(query.getAll("sort"), query.get("by") ?? "");
  return windowAddress({ where: query.get("where") ?? "", ...scope, columns: firstColumns(query.getAll("columns")), sort }, 0);
}
