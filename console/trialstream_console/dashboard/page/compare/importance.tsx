// Which parameters decide a metric: by a random forest, or by correlation where that is not installed.
import { get, type Importance as Answer } from "../api";
import { downloadCsv, downloadJson } from "../exporting";
import { useFetched } from "../fetched";
import { counted, cut, percent, short } from "../format";
import { ExportMenu } from "../parts";
import { current, link, text, update, useParam } from "../router";
import { Empty, Shown } from "../states";
import { heading } from "../table/paths";
import type { ViewProps } from "../views/compare";
import { PathChoice } from "./choice";
import { firstMetric, lastOf, metricNames, useAxes } from "./compared";

export function Importance({ query, known }: ViewProps) {
  const axes = useAxes(known);
  const [asked] = useParam("target", text());
  const first = firstMetric(metricNames(known));
  const target = asked || (first ? lastOf(first) : "");
  const answer = useFetched(
    target ? `importance ${JSON.stringify([query, target])}` : null,
    (signal) => get<Answer>("/importance", { where: query, target }, signal),
    { keep: true },
  );
  if (!target) return <Empty title="No metrics">These trials have logged no metric yet.</Empty>;
  return (
    <>
      <div class="controls" role="group" aria-label="Target">
        <PathChoice label="target" paths={axes.metrics} value={target} onValue={(next) => update({ target: next })} />
      </div>
      <Shown answer={answer} what="importance">
        {(data) => data.parameters.length === 0 ? (
          <Empty title="Nothing to tell apart">No parameter has two or more values among {counted(data.trials, "trial")} with this metric.</Empty>
        ) : <Bars data={data} target={target} />}
      </Shown>
    </>
  );
}

function Bars({ data, target }: { data: Answer; target: string }) {
  const most = Math.max(...data.parameters.map((each) => each.importance), 1e-9);
  const how = data.method === "forest" ? "share of a random forest's decisions" : "absolute correlation of ranks";
  return (
    <section class="card" aria-label="Importance of parameters">
      <header>
        <p class="muted">{counted(data.trials, "trial")}; {how}</p>
        <ExportMenu
          of="the table"
          formats={{
            CSV: () => downloadCsv("importance", ["path", "importance", "correlation", "values"].map((name) => ({ name, values: data.parameters.map((each) => each[name as "path"]) }))),
            JSON: () => downloadJson("importance", data),
          }}
        />
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of importance">
        <table class="plain bars">
          <thead><tr><th scope="col">Parameter</th><th scope="col">Importance</th><th scope="col" class="number">Correlation</th><th scope="col" class="number">Values</th></tr></thead>
          <tbody>
            {data.parameters.map((each) => (
              <tr key={each.path}>
                <th scope="row"><a href={scatter(each.path, target)} title={`${cut(each.path, 500)}: scatter plot`}><bdi>{cut(heading(each.path).label, 50)}</bdi></a></th>
                <td><span class="meter"><i style={{ width: `${(100 * each.importance) / most}%` }} /></span> {data.method === "forest" ? percent(each.importance) : short(each.importance)}</td>
                <td class="number">{each.correlation === null ? <span class="none">–</span> : short(Math.round(each.correlation * 1000) / 1000)}</td>
                <td class="number">{each.values}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function scatter(px: string, py: string): string {
  const { query, path } = current();
  return link(path, { trials: query.getAll("trials"), where: query.get("where"), project: query.get("project"), group: query.get("group"), view: "scatter", px, py });
}
