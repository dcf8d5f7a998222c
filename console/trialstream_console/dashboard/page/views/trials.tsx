// The table of trials: all, or those of a project or a group.
export function TrialsView({ project, group }: { project?: string; group?: string }) {
  return <h1>{project ?? group ?? "Trials"}</h1>;
}
