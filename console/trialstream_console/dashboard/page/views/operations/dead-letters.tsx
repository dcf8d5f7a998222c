// Dead letters: records that could not be folded, with the reason and their bytes.
import { useEffect, useState } from "preact/hooks";
import { get, isAbort, type DeadLetters } from "../../api";
import { bytes as sized, counted, isObject, unwrapped } from "../../format";
import { downloadJson } from "../../exporting";
import { ErrorState, Loading } from "../../states";
import { Name, Num, Time, Val } from "../../values";
import { Fields } from "../trial/fields";

type Letter = DeadLetters["letters"][number];

export function DeadLetterCard({ count }: { count: number }) {
  const [pages, setPages] = useState<{ letters: Letter[]; cursor: string | null } | null>(null);
  const [error, setError] = useState<unknown>();
  const [asked, setAsked] = useState<{ cursor: string | null; turn: number }>({ cursor: null, turn: 0 });
  // A new letter loads the first page anew; the others are asked for by a button.
  useEffect(() => setAsked((before) => ({ cursor: null, turn: before.turn + 1 })), [count]);
  useEffect(() => {
    const control = new AbortController();
    get<DeadLetters>("/dead-letters", { cursor: asked.cursor, limit: 50 }, control.signal).then(
      (page) => {
        setError(undefined);
        setPages((before) => ({ letters: asked.cursor && before ? [...before.letters, ...page.letters] : page.letters, cursor: page.cursor }));
      },
      (caught: unknown) => !isAbort(caught) && setError(caught),
    );
    return () => control.abort();
  }, [asked]);
  return (
    <section class="card letters" aria-label="Dead letters">
      <header>
        <h2>Dead letters</h2>
        {pages && pages.letters.length > 0 && <button type="button" onClick={() => downloadJson("dead-letters", pages.letters)}>Export JSON</button>}
      </header>
      {error !== undefined && <ErrorState error={error} retry={() => setAsked((before) => ({ ...before, turn: before.turn + 1 }))} />}
      {pages === null && error === undefined && <Loading what="dead letters" />}
      {pages && pages.letters.length === 0 && <p class="muted">None: every record of the log could be folded.</p>}
      {pages && pages.letters.length > 0 && (
        <div class="scroll bounded" tabIndex={0}>
          <table class="plain">
            <thead><tr><th scope="col">Reason</th><th scope="col">Time</th><th scope="col">Topic</th><th scope="col" class="number">Partition</th><th scope="col" class="number">Offset</th></tr></thead>
            <tbody>{pages.letters.map((each) => <Row key={`${each.topic} ${each.partition} ${each.offset}`} letter={each} />)}</tbody>
          </table>
        </div>
      )}
      {pages?.cursor && <p><button type="button" onClick={() => setAsked({ cursor: pages.cursor, turn: 0 })}>Older dead letters</button> <span class="muted">{counted(pages.letters.length, "letter")} of {count}</span></p>}
    </section>
  );
}

function Row({ letter }: { letter: Letter }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <tr>
        <td class="roomy"><button type="button" class="plain fold" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "▾" : "▸"} <Name text={letter.reason} limit={140} /></button></td>
        <td class="nowrap"><Time micros={letter.time} /></td>
        <td class="nowrap"><Name text={letter.topic} limit={32} ends /></td>
        <td class="number">{letter.partition}</td>
        <td class="number"><Num value={letter.offset} /></td>
      </tr>
      {open && (
        <tr class="opened">
          <td colSpan={5}>
            <p><bdi>{letter.reason}</bdi></p>
            <h3>Decoded</h3>
            {letter.decoded === null ? <p class="muted">It could not be decoded.</p>
              : isObject(letter.decoded) ? <Fields values={unwrapped(letter.decoded)} /> : <p><Val value={letter.decoded} limit={500} /></p>}
            <h3>Bytes <span class="muted">{sized(letter.size)}{letter.hex.length / 2 < letter.size && `, the first ${letter.hex.length / 2}`}</span></h3>
            <pre class="hex" tabIndex={0} aria-label="Bytes as hexadecimal digits">{dump(letter.hex)}</pre>
          </td>
        </tr>
      )}
    </>
  );
}

/** Hexadecimal digits as lines of 16 bytes: place, bytes, and the ASCII characters among them. */
export function dump(hex: string): string {
  const bytes = hex.replace(/\s+/g, "").match(/../g) ?? [];
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 16) {
    const row = bytes.slice(i, i + 16);
    const text = row.map((each) => parseInt(each, 16)).map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : "·")).join("");
    lines.push(`${i.toString(16).padStart(6, "0")}  ${row.join(" ").padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}
