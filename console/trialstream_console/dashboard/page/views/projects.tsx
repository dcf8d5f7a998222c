// The projects, and the groups of each: where a person begins.
import { get, type GroupRow, type ProjectRow } from "../api";
import { useFetched, useThrottled } from "../fetched";
import { counted } from "../format";
import { useLive } from "../live";
import { useTitle } from "../parts";
import { flag, link, text, update, useParam } from "../router";
import { Empty, Shown } from "../states";
import { Name, Num, Time } from "../values";

export function ProjectsView() {
  useTitle("");
  const [open] = useParam("open", text());
  const [described] = useParam("descriptions", flag);
  const answer = useFetched("projects", (signal) => get<ProjectRow[]>("/projects", {}, signal));
  const reload = useThrottled(answer.reload, 2000);
  useLive({}, { trials: reload, reset: reload });
  return (
    <Shown answer={answer} what="projects">
      {(projects) => (
        <>
          <div class="title"><h1>Projects</h1><span class="muted">{counted(projects.length, "project")}</span></div>
          {projects.length === 0 ? <NoProjects /> : (
            <div class="scroll">
              <table class="plain projects">
                <Heading first="Project" />
                <tbody>
                  {projects.map((each) => (
                    <Rows key={each.uid} project={each} open={open === each.uid} described={described} />
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </>
      )}
    </Shown>
  );
}

function Heading({ first }: { first: string }) {
  return (
    <thead>
      <tr>
        <th scope="col">{first}</th>
        <th scope="col" class="number">Trials</th>
        <th scope="col" class="number">Running</th>
        <th scope="col" class="number">Failed</th>
        <th scope="col">Latest event</th>
        <th scope="col">Created</th>
      </tr>
    </thead>
  );
}

function NoProjects() {
  return (
    <Empty title="No projects yet">
      A project appears here with its first trial: <code>ts.track(project="digits")</code>. Trials without a project are
      among <a href="/trials">all trials</a>.
    </Empty>
  );
}

function Rows({ project, open, described }: { project: ProjectRow; open: boolean; described: boolean }) {
  return (
    <>
      <tr>
        <th scope="row">
          <button
            type="button"
            class="plain fold"
            aria-expanded={open}
            aria-label={`Groups of ${project.name}`}
            onClick={() => update({ open: open ? null : project.uid })}
          >
            {open ? "▾" : "▸"}
          </button>
          <a href={link(`/projects/${encodeURIComponent(project.uid)}`)}><Name text={project.name} /></a>
          {project.description && <p class="muted">{<Name text={project.description} limit={described ? 4000 : 160} />}</p>}
        </th>
        <Counts row={project} />
      </tr>
      {open && <Groups project={project.uid} />}
    </>
  );
}

function Counts({ row }: { row: ProjectRow }) {
  return (
    <>
      <td class="number"><Num value={row.trials} /></td>
      <td class="number">{row.running ? <span class="status running"><Num value={row.running} /></span> : <span class="none">–</span>}</td>
      <td class="number">{row.failed ? <span class="status failed"><Num value={row.failed} /></span> : <span class="none">–</span>}</td>
      <td><Time micros={row.latest} relative /></td>
      <td><Time micros={row.created} /></td>
    </>
  );
}

function Groups({ project }: { project: string }) {
  const answer = useFetched(`groups ${project}`, (signal) => get<GroupRow[]>("/groups", { project }, signal));
  return (
    <>
      {answer.data?.map((group) => (
        <tr key={group.uid} class="group">
          <th scope="row">
            <a href={link(`/groups/${encodeURIComponent(group.uid)}`)}><Name text={group.name} /></a>
            {group.description && <p class="muted"><Name text={group.description} limit={160} /></p>}
          </th>
          <Counts row={group} />
        </tr>
      ))}
      {answer.data?.length !== undefined && answer.data.length > 0 ? null : (
        <tr class="group">
          <td colSpan={6}><Shown answer={answer} what="groups">{() => <span class="muted">No groups.</span>}</Shown></td>
        </tr>
      )}
    </>
  );
}
