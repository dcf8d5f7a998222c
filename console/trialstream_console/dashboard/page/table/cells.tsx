// The cells of the table of trials, and the headings of its groups.
import type { ColumnInfo, Value } from "../api";
import { brief, counted, cut, full } from "../format";
import { Num, Time, Val } from "../values";
import type { Group } from "./layout";
import { heading, isTime } from "./paths";
import type { Names } from "./scope";

export function Cell({ path, info, value, names }: { path: string; info?: ColumnInfo; value: Value | undefined; names: Names }) {
  if (value === null || value === undefined) return null;
  if (typeof value === "number" && isTime(path, info)) return <Time micros={value} />;
  if (typeof value === "string" && (path === "project_id" || path === "group_id")) return <bdi title={cut(value, 500)}>{nameOf(path, value, names)}</bdi>;
  return typeof value === "number" ? <Num value={value} /> : <Val value={value} limit={60} />;
}

function nameOf(path: string, uid: string, names: Names): string {
  const known = path === "group_id" ? names.groups.get(uid) : names.projects.get(uid);
  return cut(known?.name ?? uid, 60);
}

export function GroupHeading({ path, group, closed, names, fold }: { path: string; group: Group; closed: boolean; names: Names; fold: () => void }) {
  const { label } = heading(path);
  const value = typeof group.value === "string" ? nameOf(path, group.value, names) : group.value === null ? "none" : brief(group.value, 60);
  return (
    <button type="button" class="plain" tabIndex={-1} aria-expanded={!closed} title={cut(full(group.value), 1000)} onClick={fold}>
      <span aria-hidden="true">{closed ? "▸" : "▾"}</span>
      <span class="muted"><bdi>{cut(label, 40)}</bdi> =</span> <strong><bdi>{value}</bdi></strong>
      <span class="muted">{counted(group.count, "trial")}</span>
    </button>
  );
}
