// What the server is and may do, loaded once and kept up to date by the live events.
import { useEffect, useState } from "preact/hooks";
import { get, type About } from "./api";

let about: About | undefined;
const listeners = new Set<() => void>();

export async function loadAbout(): Promise<void> {
  try {
    about = await get<About>("/about");
  } catch {
    // The connection state of the header says so, and the next event of the live stream loads it again.
  }
  for (const each of [...listeners]) each();
}

/** The answer of /about; undefined until it is there. */
export function useAbout(): About | undefined {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const listen = (): void => setTurn((before) => before + 1);
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return about;
}
