// Whose trials a table shows: a project's, a group's or all; and the names of projects and groups.
import { get, type GroupRow, type ProjectRow } from "../api";
import { useFetched } from "../fetched";
import { cut } from "../format";
import { go, link } from "../router";
import { Name } from "../values";

export interface Scope { project?: string; group?: string }

export interface Names {
  projects: ReadonlyMap<string, ProjectRow>;
  groups: ReadonlyMap<string, GroupRow>;
  /** Whether both are there. */
  loaded: boolean;
}

/** The projects and groups, for their names; loaded once they are `wanted`. */
export function useNames(wanted = true): Names {
  const projects = useFetched(wanted ? "projects" : null, (signal) => get<ProjectRow[]>("/projects", {}, signal));
  const groups = useFetched(wanted ? "groups" : null, (signal) => get<GroupRow[]>("/groups", {}, signal));
  return {
    projects: new Map(projects.data?.map((each) => [each.uid, each])),
    groups: new Map(groups.data?.map((each) => [each.uid, each])),
    loaded: projects.data !== undefined && groups.data !== undefined,
  };
}

export function scopeName(scope: Scope, names: Names): string {
  if (scope.group) return names.groups.get(scope.group)?.name ?? scope.group;
  if (scope.project) return names.projects.get(scope.project)?.name ?? scope.project;
  return "All trials";
}

/** Whether the log is known to have no such project or group. */
export function isUnknown(scope: Scope, { projects, groups, loaded }: Names): boolean {
  return loaded && ((scope.project !== undefined && !projects.has(scope.project)) || (scope.group !== undefined && !groups.has(scope.group)));
}

/** The title of a table: its place among projects and groups. */
export function ScopeTitle({ scope, names, detail }: { scope: Scope; names: Names; detail: string }) {
  const group = scope.group ? names.groups.get(scope.group) : undefined;
  const uid = scope.project ?? group?.project ?? undefined;
  const project = uid ? names.projects.get(uid) : undefined;
  const groups = uid ? [...names.groups.values()].filter((each) => each.project === uid) : [];
  return (
    <div class="title">
      {(scope.project || scope.group) && (
        <nav class="crumbs" aria-label="Place">
          <a href="/">Projects</a>
          {scope.group && uid && <> / <a href={address("projects", uid)}><Name text={project?.name ?? uid} limit={60} /></a></>}
        </nav>
      )}
      <h1><Name text={scopeName(scope, names)} /></h1>
      <span class="muted" role="status">{detail}</span>
      {groups.length > 0 && (
        <label class="muted">
          Group{" "}
          <select value={scope.group ?? ""} onChange={(event) => go(choose(uid!, event.currentTarget.value))}>
            <option value="">all</option>
            {groups.map((each) => <option key={each.uid} value={each.uid}>{cut(each.name, 60)} ({each.trials})</option>)}
          </select>
        </label>
      )}
    </div>
  );
}

function choose(project: string, group: string): string {
  return group ? address("groups", group) : address("projects", project);
}

function address(kind: string, uid: string): string {
  return link(`/${kind}/${encodeURIComponent(uid)}`);
}
