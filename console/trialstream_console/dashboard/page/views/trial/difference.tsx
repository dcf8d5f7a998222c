// The difference of two trials: parameters, metadata, tags and last metrics.
import { useState } from "preact/hooks";
import { get, type TrialDetail, type TrialTable, type Value } from "../../api";
import { useFetched } from "../../fetched";
import { cut, isObject, numeric, unwrapped } from "../../format";
import { flag, link, text, update, useParam } from "../../router";
import { Shown } from "../../states";
import { Name, Status, Val } from "../../values";

export function Difference({ trial }: { trial: TrialDetail }) {
  const [other] = useParam("against", text());
  return (
    <section class="card against" aria-label="Difference from another trial">
      <header>
        <h2>Difference from another trial</h2>
        {other && <button type="button" onClick={() => update({ against: null })}>Choose another</button>}
      </header>
      {other ? <Compared trial={trial} uid={other} /> : <Choice trial={trial} />}
    </section>
  );
}

function Choice({ trial }: { trial: TrialDetail }) {
  const [words, setWords] = useState("");
  const where = words.trim() ? `name ~ ${JSON.stringify(words.trim())} or uid = ${JSON.stringify(words.trim())}` : "";
  const answer = useFetched(`against ${trial.group} ${where}`, (signal) => get<TrialTable>(
    "/trials", { where: where || null, group: where ? null : trial.group, project: where ? null : trial.project, sort: "-created", limit: 9 }, signal,
  ), { keep: true });
  return (
    <>
      <input type="search" value={words} placeholder="Name or uid" aria-label="Search a trial to compare with" onInput={(event) => setWords(event.currentTarget.value)} />
      <Shown answer={answer} what="trials">
        {(table) => {
          const found = table.uids.map((uid, i) => ({ uid, name: table.names[i]!, status: table.statuses[i]! })).filter((each) => each.uid !== trial.uid);
          return found.length === 0 ? <p class="muted">{where ? "No other trial has such a name or uid." : "No other trial is near it: search for one."}</p> : (
            <ul class="choices">
              {found.slice(0, 8).map((each) => (
                <li key={each.uid}>
                  <button type="button" class="plain" onClick={() => update({ against: each.uid })}>
                    <Status status={each.status} /> <Name text={each.name} limit={60} /> <code class="muted">{cut(each.uid, 12)}</code>
                  </button>
                </li>
              ))}
            </ul>
          );
        }}
      </Shown>
    </>
  );
}

function Compared({ trial, uid }: { trial: TrialDetail; uid: string }) {
  const [all, setAll] = useParam("same", flag);
  const path = `/trials/${encodeURIComponent(uid)}`;
  const answer = useFetched(path, (signal) => get<TrialDetail>(path, {}, signal));
  return (
    <Shown answer={answer} what="the other trial">
      {(other) => {
        const rows = differences(trial, other);
        const shown = all ? rows : rows.filter((each) => each.differs);
        return (
          <>
            <p>
              <label><input type="checkbox" checked={all} onChange={() => setAll(!all)} /> show what is equal</label>
              {" "}<span class="muted">{rows.filter((each) => each.differs).length} of {rows.length} differ</span>
              {" "}<a class="button" href={link("/compare", { trials: [trial.uid, other.uid] })}>Compare their curves</a>
            </p>
            {shown.length === 0 ? <p class="muted">They are equal in all of it.</p> : (
              <div class="scroll bounded" tabIndex={0}>
                <table class="plain">
                  <thead><tr><th scope="col">Field</th><th scope="col"><Name text={trial.name} limit={40} /></th><th scope="col"><a href={path}><Name text={other.name} limit={40} /></a></th></tr></thead>
                  <tbody>
                    {shown.slice(0, 1000).map((each) => (
                      <tr key={each.path} class={all && each.differs ? "differs" : undefined}>
                        <th scope="row"><Name text={each.path} limit={60} /></th>
                        <td><Val value={each.mine} /></td>
                        <td><Val value={each.other} /></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
          </>
        );
      }}
    </Shown>
  );
}

interface Row { path: string; mine: Value | undefined; other: Value | undefined; differs: boolean }

/** All fields of two trials by their paths, metrics last. */
export function differences(mine: TrialDetail, other: TrialDetail): Row[] {
  const [a, b] = [flat(mine), flat(other)];
  return [...new Set([...a.keys(), ...b.keys()])].map((path) => {
    const [left, right] = [a.get(path), b.get(path)];
    return { path, mine: left, other: right, differs: JSON.stringify(left) !== JSON.stringify(right) };
  });
}

function flat(trial: TrialDetail): Map<string, Value> {
  const out = new Map<string, Value>();
  const add = (path: string, value: Value): void => {
    if (isObject(value) && numeric(value) === null && !("$bytes" in value)) {
      for (const [name, each] of Object.entries(unwrapped(value))) add(`${path}.${name}`, each);
    } else {
      out.set(path, value);
    }
  };
  add("parameters", trial.parameters);
  add("metadata", trial.metadata);
  add("tags", trial.tags);
  out.set("status", trial.status.name);
  if (trial.version !== null) out.set("version", trial.version);
  for (const metric of trial.metrics) out.set(`metrics.${metric.name}.last`, metric.last);
  return out;
}
