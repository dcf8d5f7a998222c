// What can be done with the selected trials: comparing them, and, if the server allows it, tags and notes.
import { useState } from "preact/hooks";
import { useAbout } from "../about";
import { post, type Value } from "../api";
import { counted } from "../format";
import { Dialog } from "../parts";
import { go, link } from "../router";
import type { Selection } from "./selecting";

/** How many trials one comparison shows: more lines are not told apart, and an address has a bound. */
export const COMPARED = 50;
const WRITTEN = 500; // trials that one action writes to

export function SelectionBar({ selection, clear, changed }: { selection: Selection; clear: () => void; changed: () => void }) {
  const about = useAbout();
  const [dialog, setDialog] = useState<"tag" | "note" | null>(null);
  const uids = [...selection.keys()];
  const count = uids.length;
  if (count === 0) return null;
  return (
    <div class="selection" role="region" aria-label="Selected trials">
      <strong aria-live="polite">{counted(count, "trial")} selected</strong>
      <button
        type="button"
        class="primary"
        disabled={count < 2 || count > COMPARED}
        title={count > COMPARED ? `Up to ${COMPARED} trials; filter and use the comparison of all that match for more` : "Compare (c)"}
        onClick={() => go(link("/compare", { trials: uids }))}
      >
        Compare
      </button>
      {about?.writes && <button type="button" disabled={count > WRITTEN} onClick={() => setDialog("tag")}>Tag…</button>}
      {about?.writes && <button type="button" disabled={count > WRITTEN} onClick={() => setDialog("note")}>Note…</button>}
      <button type="button" class="plain" onClick={clear}>Clear</button>
      {dialog === "tag" && <TagDialog uids={uids} close={() => setDialog(null)} changed={changed} />}
      {dialog === "note" && <NoteDialog uids={uids} close={() => setDialog(null)} changed={changed} />}
    </div>
  );
}

/** A text as a value: numbers, true, false, null and JSON are what they look like; all else is text. */
export function valueOf(text: string): Value {
  try {
    return JSON.parse(text) as Value;
  } catch {
    return text;
  }
}

interface Writing { uids: readonly string[]; close: () => void; changed: () => void }

function TagDialog({ uids, close, changed }: Writing) {
  const [name, setName] = useState("");
  const [value, setValue] = useState("");
  return (
    <WriteDialog
      title={`Tag ${counted(uids.length, "trial")}`}
      action="Set the tag"
      ready={name.trim() !== ""}
      write={(uid) => post(`/trials/${encodeURIComponent(uid)}/tags`, { tags: { [name.trim()]: value === "" ? null : valueOf(value) } })}
      {...{ uids, close, changed }}
    >
      <label class="field">Name <input value={name} required onInput={(event) => setName(event.currentTarget.value)} /></label>
      <label class="field">Value <input value={value} placeholder="none" onInput={(event) => setValue(event.currentTarget.value)} /></label>
    </WriteDialog>
  );
}

function NoteDialog({ uids, close, changed }: Writing) {
  const [text, setText] = useState("");
  return (
    <WriteDialog
      title={`Note on ${counted(uids.length, "trial")}`}
      action="Add the note"
      ready={text.trim() !== ""}
      write={(uid) => post(`/trials/${encodeURIComponent(uid)}/notes`, { text })}
      {...{ uids, close, changed }}
    >
      <label class="field">Text <textarea rows={4} value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
    </WriteDialog>
  );
}

function WriteDialog({ title, action, ready, write, uids, close, changed, children }: Writing & {
  title: string;
  action: string;
  ready: boolean;
  write: (uid: string) => Promise<void>;
  children: preact.ComponentChildren;
}) {
  const [done, setDone] = useState<number | null>(null);
  const [error, setError] = useState("");
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setError("");
    try {
      for (const [index, uid] of uids.entries()) {
        setDone(index);
        await write(uid);
      }
      changed();
      close();
    } catch (failed) {
      setError(failed instanceof Error ? failed.message : String(failed));
      setDone(null);
    }
  };
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={(event) => void submit(event)}>
        {children}
        {error && <p class="wrong" role="alert">{error}</p>}
        <button type="submit" class="primary" disabled={!ready || done !== null}>
          {done === null ? action : `${done + 1} of ${uids.length}`}
        </button>
      </form>
    </Dialog>
  );
}
