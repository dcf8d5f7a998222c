// A table of the compared trials with the rows in which they differ.
import { useMemo } from "preact/hooks";
import type { ColumnInfo, TrialTable } from "../api";
import { downloadCsv, downloadJson } from "../exporting";
import { counted, cut, full, isLong } from "../format";
import { ExportMenu } from "../parts";
import { flag, link, update, useParam } from "../router";
import { Empty, Shown } from "../states";
import { heading, isTime, parts } from "../table/paths";
import { Status, Time, Val } from "../values";
import type { ViewProps } from "../views/compare";
import { useTable } from "./compared";

const MOST = 50; // trials: columns of the table
const ROWS = 180; // columns that the server gives at once

export function Differences({ query, known }: ViewProps) {
  const paths = useMemo(() => compared(known), [known]);
  const table = useTable(query, paths, MOST);
  return (
    <Shown answer={table} what="trials">
      {(data) => data.uids.length === 0 ? <Empty title="No trials">No trial matches.</Empty> : <Rows data={data} known={known} />}
    </Shown>
  );
}

/** Parameters, tags and metadata, then the last values of metrics. */
function compared(known: readonly ColumnInfo[]): string[] {
  const of = (kind: ColumnInfo["kind"], fits = (_: string) => true): string[] => known.filter((each) => each.kind === kind && fits(each.path)).map((each) => each.path);
  return [...of("parameter"), ...of("tag"), ...of("metadata"), ...of("metric", (path) => parts(path).at(-1) === "last"), "created", "started", "finished"].slice(0, ROWS);
}

/** The columns of a table in which not all trials have the same value; long values are not compared to their ends. */
export function differing(data: TrialTable): number[] {
  return data.columns.flatMap((_, index) => {
    const values = data.values[index]!;
    const first = full(values[0]);
    return values.some((each) => isLong(each) || full(each) !== first || typeof each !== typeof values[0]) ? [index] : [];
  });
}

function Rows({ data, known }: { data: TrialTable; known: readonly ColumnInfo[] }) {
  const [all] = useParam("all", flag);
  const infos = useMemo(() => new Map(known.map((each) => [each.path, each])), [known]);
  const differ = useMemo(() => differing(data), [data]);
  const shown = all ? data.columns.map((_, index) => index) : differ;
  const equal = data.columns.length - differ.length;
  const file = shown.map((index) => ({ path: data.columns[index]!, values: data.values[index]! }));
  return (
    <section aria-label="Differences">
      <div class="bar">
        {equal > 0 && <label><input type="checkbox" checked={all} onChange={() => update({ all: !all })} /> also the {counted(equal, "row")} in which all are equal</label>}
        <ExportMenu
          of="the table"
          formats={{
            CSV: () => downloadCsv("differences", [{ name: "", values: file.map((each) => each.path) }, ...data.uids.map((uid, row) => ({ name: data.names[row] || uid, values: file.map((each) => each.values[row]) }))]),
            JSON: () => downloadJson("differences", data.uids.map((uid, row) => ({ uid, name: data.names[row], values: Object.fromEntries(file.map((each) => [each.path, each.values[row]])) }))),
          }}
        />
        {data.total > data.uids.length && <span class="muted">The latest {data.uids.length} of {counted(data.total, "trial")}</span>}
      </div>
      {shown.length === 0 ? <Empty title="No differences">All {counted(equal, "row")} are equal.</Empty> : (
        <div class="scroll differences" tabIndex={0} role="region" aria-label="Table of differences">
          <table class="plain">
            <thead>
              <tr>
                <td />
                {data.uids.map((uid, row) => (
                  <th scope="col" key={uid}>
                    <a href={link(`/trials/${encodeURIComponent(uid)}`)} title={cut(data.names[row]!, 500)}><bdi>{cut(data.names[row] || uid, 30)}</bdi></a>
                    <Status status={data.statuses[row]!} />
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((index) => {
                const path = data.columns[index]!;
                const { over, label } = heading(path);
                return (
                  <tr key={path} class={all && !differ.includes(index) ? "equal" : undefined}>
                    <th scope="row" title={cut(path, 500)}><bdi>{cut(label, 50)}</bdi> {over && <span class="muted">{over}</span>}</th>
                    {data.values[index]!.map((value, row) => (
                      <td key={data.uids[row]}>{typeof value === "number" && isTime(path, infos.get(path)) ? <Time micros={value} seconds /> : <Val value={value} limit={40} />}</td>
                    ))}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
