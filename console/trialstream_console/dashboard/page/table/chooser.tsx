// The dialog for the columns of a table: what the trials have, searched, chosen, and put in order.
import { useState } from "preact/hooks";
import type { ColumnInfo } from "../api";
import { counted, cut } from "../format";
import { Dialog } from "../parts";
import { heading, ordered } from "./paths";

const SHOWN = 150; // of each search: trials may have 10,000 columns

export function Chooser({ known, chosen, onChosen, close, reset }: {
  known: readonly ColumnInfo[];
  chosen: readonly string[];
  onChosen: (paths: string[]) => void;
  close: () => void;
  reset: () => void;
}) {
  const [words, setWords] = useState("");
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const found = ordered(known).filter((each) => wanted.every((word) => each.path.toLowerCase().includes(word)));
  const on = new Set(chosen);
  const toggle = (path: string): void => onChosen(on.has(path) ? chosen.filter((each) => each !== path) : [...chosen, path]);
  const move = (path: string, by: number): void => onChosen(moved(chosen, path, by));
  return (
    <Dialog title="Columns" close={close}>
      <div class="chooser">
        <section aria-label="Columns of the table">
          <h3>Shown, in this order</h3>
          <ol>
            {chosen.map((path, index) => (
              <li key={path}>
                <Label path={path} />
                <button type="button" class="plain" aria-label={`Move ${cut(path, 60)} up`} disabled={index === 0} onClick={() => move(path, -1)}>↑</button>
                <button type="button" class="plain" aria-label={`Move ${cut(path, 60)} down`} disabled={index === chosen.length - 1} onClick={() => move(path, 1)}>↓</button>
                <button type="button" class="plain" aria-label={`Remove ${cut(path, 60)}`} onClick={() => toggle(path)}>✕</button>
              </li>
            ))}
          </ol>
          {chosen.length === 0 && <p class="muted">Only name and status.</p>}
          <button type="button" onClick={reset}>Default columns</button>
        </section>
        <section aria-label="Columns to choose">
          <h3><label class="sr" for="column-search">Search columns</label>{counted(known.length, "column")} of these trials</h3>
          <input id="column-search" type="search" value={words} placeholder="Search" spellcheck={false} onInput={(event) => setWords(event.currentTarget.value)} />
          <ul>
            {found.slice(0, SHOWN).map((each) => (
              <li key={each.path}>
                <label>
                  <input type="checkbox" checked={on.has(each.path)} onChange={() => toggle(each.path)} />
                  <Label path={each.path} />
                </label>
                <span class="muted" title={counted(each.count, "trial has it", "trials have it")}>{each.type}</span>
              </li>
            ))}
          </ul>
          {found.length > SHOWN && <p class="muted">and {counted(found.length - SHOWN, "more", "more")}: search for them</p>}
          {found.length === 0 && <p class="muted">No column has these words in its path.</p>}
        </section>
      </div>
    </Dialog>
  );
}

function Label({ path }: { path: string }) {
  const { over, label } = heading(path);
  return <span class="path" title={cut(path, 500)}><bdi>{cut(label, 60)}</bdi>{over && <span class="muted"> {over}</span>}</span>;
}

/** The list with one item some places further. */
export function moved(list: readonly string[], item: string, by: number): string[] {
  const from = list.indexOf(item);
  if (from < 0) return [...list];
  const rest = list.filter((each) => each !== item);
  const to = Math.max(0, Math.min(rest.length, from + by));
  return [...rest.slice(0, to), item, ...rest.slice(to)];
}
