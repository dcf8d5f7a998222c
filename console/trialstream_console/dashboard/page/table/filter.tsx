// The field for the query language: completion while typing, the error at its place.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Failure, get, isAbort } from "../api";
import { useWidth } from "../use-width";

interface Completion { from: number; items: { text: string; kind: string }[] }
interface Trouble { message: string; column?: number }

const PAUSE = 150; // after the last key, milliseconds
/** Examples, the longest first, and the width of the field that each needs, pixels. */
const EXAMPLES = [["status = Running and metrics.loss.last < 0.1", 440], ["metrics.loss.last < 0.1", 0]] as const;

export function Filter({ where, error, onWhere, scope }: {
  where: string;
  /** The error of the applied query, as the server has answered. */
  error?: Trouble;
  onWhere: (where: string) => void;
  scope: { project?: string; group?: string };
}) {
  const [typed, setTyped] = useState(where);
  const [trouble, setTrouble] = useState<Trouble | undefined>();
  const [list, setList] = useState<(Completion & { of: string }) | null>(null);
  const [chosen, setChosen] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const asked = useRef<AbortController | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const id = useId();
  const [box, width] = useWidth<HTMLDivElement>();

  useEffect(() => {
    setTyped(where);
    setTrouble(undefined);
    setList(null);
  }, [where]);
  useEffect(() => () => {
    clearTimeout(timer.current);
    asked.current?.abort();
  }, []);

  const look = (text: string): void => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => void complete(text), PAUSE);
  };
  const complete = async (text: string): Promise<void> => {
    asked.current?.abort();
    const control = new AbortController();
    asked.current = control;
    const at = input.current?.selectionStart ?? text.length;
    try {
      const answer = await get<Completion>("/where/complete", { text, at, ...scope }, control.signal);
      if (document.activeElement !== input.current) return;
      setList(answer.items.length ? { ...answer, of: text } : null);
      setChosen(-1);
    } catch (failed) {
      if (!isAbort(failed)) setList(null);
    }
  };
  const dismiss = (): void => {
    clearTimeout(timer.current);
    asked.current?.abort();
    setList(null);
  };
  const submit = async (): Promise<void> => {
    dismiss();
    const text = typed.trim();
    try {
      if (text) await get("/where/check", { text });
      setTrouble(undefined);
      onWhere(text);
    } catch (failed) {
      if (!(failed instanceof Failure)) throw failed;
      setTrouble({ message: failed.message, column: failed.column });
    }
  };
  const accept = (index: number): void => {
    const item = list?.items[index];
    if (!list || !item) return;
    const end = input.current?.selectionStart ?? list.of.length;
    const before = list.of.slice(0, list.from) + item.text;
    const after = list.of.slice(end);
    const next = after.startsWith(" ") || after === "" ? `${before} ${after.trimStart()}` : before + after;
    setTyped(next);
    setList(null);
    setChosen(-1);
    look(next);
    if (!input.current) return;
    // At once, and not when the field is drawn: what is typed meanwhile would be behind the cursor.
    input.current.value = next;
    const place = Math.min(next.length, before.length + 1);
    input.current.focus();
    input.current.setSelectionRange(place, place);
  };
  const keyed = (event: KeyboardEvent): void => {
    const count = list?.items.length ?? 0;
    if (event.key === "ArrowDown" && !list) look(typed);
    else if (event.key === "ArrowDown" && count) setChosen((chosen + 1) % count);
    else if (event.key === "ArrowUp" && count) setChosen((chosen <= 0 ? count : chosen) - 1);
    else if (event.key === "Enter" && chosen >= 0) accept(chosen);
    else if (event.key === "Tab" && !event.shiftKey && chosen >= 0) accept(chosen);
    else if (event.key === "Enter") void submit();
    else if (event.key === "Escape") dismiss();
    else return;
    event.preventDefault();
  };
  const shown = trouble ?? error;
  return (
    <div class="filter" ref={box}>
      <input
        ref={input}
        type="text"
        role="combobox"
        class="mono"
        value={typed}
        placeholder={`Filter:  ${EXAMPLES.find(([, needed]) => width >= needed)![0]}`}
        aria-label="Filter trials by a query"
        aria-expanded={list !== null}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={chosen >= 0 ? `${id}-${chosen}` : undefined}
        aria-invalid={shown !== undefined}
        aria-describedby={shown ? `${id}-error` : undefined}
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        onInput={(event) => {
          setTyped(event.currentTarget.value);
          setTrouble(undefined);
          look(event.currentTarget.value);
        }}
        onKeyDown={keyed}
        onBlur={() => setTimeout(() => document.activeElement !== input.current && setList(null), 100)}
      />
      {(typed || where) && (
        <button type="button" class="plain clear" aria-label="Clear the filter" onClick={() => { setTyped(""); onWhere(""); }}>✕</button>
      )}
      <ul id={`${id}-list`} role="listbox" aria-label="Completions" hidden={list === null}>
        {list?.items.map((item, index) => (
          <li
            key={`${item.kind} ${item.text}`}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            onPointerDown={(event) => { event.preventDefault(); accept(index); }}
          >
            <bdi>{item.text}</bdi><span class="muted">{item.kind}</span>
          </li>
        ))}
      </ul>
      {shown && <Mark id={`${id}-error`} text={trouble ? typed : where} trouble={shown} />}
    </div>
  );
}

/** The query with the place of its error underlined, and what was expected there. */
function Mark({ id, text, trouble }: { id: string; text: string; trouble: Trouble }) {
  const { column } = trouble;
  const end = column === undefined ? 0 : column + (/^[^\s()"',=<>!~]+|^./u.exec(text.slice(column))?.[0].length ?? 0);
  return (
    <div class="trouble" id={id} role="alert">
      {column !== undefined && (
        <p class="mono">
          <bdi>{text.slice(Math.max(0, column - 60), column)}</bdi><mark>{text.slice(column, end) || "\u00a0\u00a0\u00a0"}</mark><bdi>{text.slice(end, end + 40)}</bdi>
        </p>
      )}
      <p>{trouble.message.replace(/^where, column \d+: /, "")}</p>
    </div>
  );
}
