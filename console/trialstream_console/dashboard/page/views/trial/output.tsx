// What the processes of a trial have printed: its last part, as the trial keeps it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type Output } from "../../api";
import { useFetched } from "../../fetched";
import { count } from "../../format";
import { download } from "../../exporting";
import { flag, text, useParam } from "../../router";
import { Empty, Shown } from "../../states";
import type { TabProps } from "../trial";

/** Lines that are in the page at most: the last ones. Their layout takes 20 ms. */
const MOST_LINES = 5000;

export function OutputTab({ trial, turn }: TabProps) {
  const [stream, setStream] = useParam("stream", text());
  const [rank, setRank] = useParam("rank", text());
  const [find, setFind] = useParam("find", text());
  const [still, setStill] = useParam("still", flag);
  const path = `/trials/${encodeURIComponent(trial.uid)}/output`;
  const key = `${path} ${stream} ${rank}`;
  const answer = useFetched(key, (signal) => get<Output>(path, { stream, rank }, signal), { keep: true });
  useEffect(() => {
    if (turn > 0) answer.reload();
  }, [turn]);
  return (
    <Shown answer={answer} what="the output">
      {(output) => (output.ranks.length === 0 ? (
        <Empty title="No output captured">Start the trial with <code>capture=True</code>, and what its processes print appears here.</Empty>
      ) : (
        <section aria-label="Output">
          <div class="bar">
            <span class="segments" role="group" aria-label="Stream">
              {output.streams.map((each) => (
                <button type="button" key={each} aria-pressed={each === output.stream} onClick={() => setStream(each)}>{each}</button>
              ))}
            </span>
            {output.ranks.length > 1 && (
              <label>
                Rank
                <select value={String(output.rank ?? "")} onChange={(event) => setRank(event.currentTarget.value)}>
                  {output.ranks.map((each) => <option key={each} value={String(each ?? "")}>{each ?? "none"}</option>)}
                </select>
              </label>
            )}
            <input type="search" class="grow" value={find} placeholder="Search the lines" aria-label="Search the lines" onInput={(event) => setFind(event.currentTarget.value, { replace: true })} />
            <label><input type="checkbox" checked={!still} onChange={() => setStill(!still)} /> follow the end</label>
            <button type="button" onClick={() => download(`${trial.name}-${output.rank === null ? "" : `rank${output.rank}-`}${output.stream}.txt`, output.text)}>Export text</button>
          </div>
          {output.truncated && <p class="muted">The trial keeps the last part of its output; earlier lines are gone.</p>}
          <Lines text={output.text} find={find} follow={!still} />
        </section>
      ))}
    </Shown>
  );
}

function Lines({ text, find, follow }: { text: string; find: string; follow: boolean }) {
  const box = useRef<HTMLPreElement>(null);
  const [away, setAway] = useState(false);
  const lines = useMemo(() => text.replace(/\n$/, "").split("\n").map(overwritten), [text]);
  const needle = find.toLowerCase();
  const found = useMemo(() => (needle ? lines.filter((each) => each.toLowerCase().includes(needle)) : lines), [lines, needle]);
  useEffect(() => {
    if (follow && !away && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [found, follow, away]);
  return (
    <>
      {needle && <p class="muted" role="status">{count(found.length)} of {count(lines.length)} lines</p>}
      {found.length > MOST_LINES && <p class="muted">The last {count(MOST_LINES)} lines of {count(found.length)}</p>}
      <pre
        class="output" ref={box} tabIndex={0} aria-label="Captured output"
        onScroll={(event) => setAway(event.currentTarget.scrollHeight - event.currentTarget.scrollTop - event.currentTarget.clientHeight > 40)}
      >
        {needle ? found.slice(-MOST_LINES).map((line, i) => <Found key={i} line={line} needle={needle} />) : found.slice(-MOST_LINES).join("\n")}
      </pre>
    </>
  );
}

function Found({ line, needle }: { line: string; needle: string }) {
  const at = line.toLowerCase().indexOf(needle);
  return <>{line.slice(0, at)}<mark>{line.slice(at, at + needle.length)}</mark>{line.slice(at + needle.length)}{"\n"}</>;
}

/** A line as a terminal shows it: what follows a carriage return replaces it, and colours are left out. */
export function overwritten(line: string): string {
  const plain = line.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, "");
  const parts = plain.split("\r").filter(Boolean);
  return parts[parts.length - 1] ?? "";
}
