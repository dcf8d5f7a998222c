// The live rows of a trial, handed from its one connection to all its charts.
import type { RowsEvent } from "../../live";

type Listener = (event: RowsEvent) => void;

/** The pause before the names of the charts in view are announced, milliseconds: scrolling changes many at once. */
const PAUSE = 400;

export class LiveRows {
  private readonly listeners = new Map<Listener, readonly string[]>();
  private announce: (names: readonly string[]) => void = () => undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private announced = "[]";

  /** Rows of the metrics with these names. */
  of(names: readonly string[]): { subscribe(listener: Listener): () => void } {
    return {
      subscribe: (listener) => {
        this.listeners.set(listener, names);
        this.later();
        return () => {
          this.listeners.delete(listener);
          this.later();
        };
      },
    };
  }

  publish(event: RowsEvent): void {
    for (const listener of [...this.listeners.keys()]) listener(event);
  }

  /** Events are missing: the charts ask for what came since. */
  reset(trial: string): void {
    this.publish({ trial, from: 0, rows_seen: Infinity, names: {}, more: true });
  }

  /** Call `listener` with the names of the charts in view, whenever they change. */
  onNames(listener: (names: readonly string[]) => void): () => void {
    this.announce = listener;
    return () => clearTimeout(this.timer);
  }

  private later(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const names = [...new Set([...this.listeners.values()].flat())].sort();
      const text = JSON.stringify(names);
      if (text !== this.announced) this.announce(names);
      this.announced = text;
    }, PAUSE);
  }
}
