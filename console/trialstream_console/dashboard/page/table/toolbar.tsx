// The controls above the table: grouping, columns, comparison of all that match, export.
import { useState } from "preact/hooks";
import { get, type ColumnInfo, type TrialTable } from "../api";
import { downloadCsv, downloadJson } from "../exporting";
import { cut } from "../format";
import { ExportMenu } from "../parts";
import { link, update, type Params } from "../router";
import { Chooser } from "./chooser";
import { heading } from "./paths";
import type { Question } from "./question";
import type { Scope } from "./scope";

const EXPORTED = 10_000; // trials of one file
const PART = 1000; // trials of one answer: the fewer values it has, the longer each may be

/** The first trials of a question, in parts. */
async function exported(params: Params): Promise<TrialTable> {
  const parts: TrialTable[] = [];
  do parts.push(await get<TrialTable>("/trials", { ...params, limit: PART, offset: parts.length * PART }));
  while (parts.length * PART < Math.min(parts[0]!.total, EXPORTED));
  return joined(parts);
}

/** Tables of the same columns as one. */
export function joined(parts: readonly TrialTable[]): TrialTable {
  const [first] = parts;
  return {
    ...first!,
    uids: parts.flatMap((each) => each.uids),
    names: parts.flatMap((each) => each.names),
    statuses: parts.flatMap((each) => each.statuses),
    values: first!.columns.map((_, index) => parts.flatMap((each) => each.values[index]!)),
  };
}

export function Toolbar({ scope, question, by, paths, known, total, name }: {
  scope: Scope;
  question: Question;
  by: string;
  paths: readonly string[];
  known: readonly ColumnInfo[];
  total: number;
  name: string;
}) {
  const [choosing, setChoosing] = useState(false);
  const [trouble, setTrouble] = useState("");
  const load = async (use: (table: TrialTable) => void): Promise<void> => {
    setTrouble("");
    try {
      const { where, columns, sort } = question;
      use(await exported({ where, ...scope, columns, sort }));
    } catch (failed) {
      setTrouble(failed instanceof Error ? failed.message : String(failed));
    }
  };
  const file = `trials-${name.slice(0, 60)}`;
  return (
    <div class="bar">
      <label>
        Group by{" "}
        <select value={by} onChange={(event) => update({ by: event.currentTarget.value, closed: null })}>
          <option value="">nothing</option>
          {!scope.group && <option value="group_id">group</option>}
          <option value="status">status</option>
          {known.filter((each) => each.kind === "parameter").slice(0, 200).map((each) => (
            <option key={each.path} value={each.path}>{cut(heading(each.path).label, 60)}</option>
          ))}
          {by && by !== "group_id" && by !== "status" && !known.some((each) => each.path === by) && <option value={by}>{cut(heading(by).label, 60)}</option>}
        </select>
      </label>
      <button type="button" onClick={() => setChoosing(true)}>Columns</button>
      {total > 1 && (
        <a class="button" href={link("/compare", { where: question.where, ...scope, view: "parallel" })}>Compare all</a>
      )}
      <ExportMenu
        of="the table"
        formats={{
          CSV: () => void load((table) => downloadCsv(file, [
            { name: "uid", values: table.uids },
            { name: "name", values: table.names },
            { name: "status", values: table.statuses.map((each) => (each.lost ? `${each.name} (lost)` : each.name)) },
            ...table.columns.map((path, index) => ({ name: path, values: table.values[index]! })),
          ])),
          JSON: () => void load((table) => downloadJson(file, table.uids.map((uid, row) => ({
            uid,
            name: table.names[row],
            status: table.statuses[row],
            ...Object.fromEntries(table.columns.map((path, index) => [path, table.values[index]![row]])),
          })))),
        }}
      />
      {trouble && <span class="wrong" role="alert">{trouble}</span>}
      {choosing && (
        <Chooser
          known={known}
          chosen={paths}
          onChosen={(next) => update({ columns: next }, { replace: true })}
          reset={() => update({ columns: null }, { replace: true })}
          close={() => setChoosing(false)}
        />
      )}
    </div>
  );
}
