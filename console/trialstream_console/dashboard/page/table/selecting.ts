// The selection of trials: their uids, with the names that they had.

export type Selection = ReadonlyMap<string, string>;

/** With one more, or one fewer. */
export function toggled(selection: Selection, uid: string, name: string): Selection {
  const next = new Map(selection);
  if (!next.delete(uid)) next.set(uid, name);
  return next;
}

/** With all of `rows`, or without them if `on` is false. */
export function ranged(selection: Selection, rows: readonly { uid: string; name: string }[], on: boolean): Selection {
  const next = new Map(selection);
  for (const { uid, name } of rows) {
    if (on) next.set(uid, name);
    else next.delete(uid);
  }
  return next;
}
