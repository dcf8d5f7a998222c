// What a view shows instead of its content: nothing yet, nothing at all, or an error.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failure } from "./api";

/** A notice that something is being loaded; it appears after 150 ms, so that fast answers do not flicker. */
export function Loading({ what = "" }: { what?: string }) {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="state" role="status" aria-live="polite">
      {shown && <><span class="spinner" aria-hidden="true" /> Loading {what}…</>}
    </div>
  );
}

/** A view without content, and what would give it some. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state empty" role="status">
      <h2>{title}</h2>
      {children && <p>{children}</p>}
    </div>
  );
}

const TITLES: Record<string, string> = {
  query: "The query has an error",
  not_found: "Not found",
  unauthorized: "Not allowed",
  too_many: "Too many requests",
  too_large: "Too much at once",
  too_slow: "The read took too long",
  mongo_away: "MongoDB is away",
  kafka_away: "Kafka is away",
  read_only: "Read only",
  away: "The dashboard's server does not answer",
  internal: "An error of the server",
};

/** An error, with a way to try again. */
export function ErrorState({ error, retry }: { error: unknown; retry?: () => void }) {
  const code = error instanceof Failure ? error.code : "internal";
  const message = error instanceof Error ? error.message : String(error);
  return (
    <div class="state error" role="alert">
      <h2>{TITLES[code] ?? "An error"}</h2>
      <p class="message">{message}</p>
      {passing(error) && <p>The page tries again by itself.</p>}
      {code === "not_found" && <p>Go to <a href="/trials">all trials</a> or to the <a href="/">projects</a>.</p>}
      <Again error={error} retry={retry} />
    </div>
  );
}

/** A button that tries again; after a login has ended, it loads the page anew, which leads to the form for the login. */
function Again({ error, retry, plain }: { error: unknown; retry?: () => void; plain?: boolean }) {
  const look = plain ? "plain" : undefined;
  if (error instanceof Failure && error.code === "unauthorized" && error.place === undefined) {
    return <button type="button" class={look} onClick={() => location.reload()}>Log in</button>;
  }
  return retry ? <button type="button" class={look} onClick={retry}>Try again</button> : null;
}

/** Whether an error passes by itself: what is away comes back. */
export function passing(error: unknown): boolean {
  return error instanceof Failure && ["away", "mongo_away", "kafka_away", "too_many"].includes(error.code);
}

/** What a view shows for a `useFetched` answer: loading, the error, or the content. Content stays while it is reloaded. */
export function Shown<T>(props: {
  answer: { data: T | undefined; error: unknown; reload: () => void };
  what?: string;
  children: (data: T) => ComponentChildren;
}) {
  const { data, error, reload } = props.answer;
  if (data !== undefined) {
    return <>{error !== undefined && <Stale error={error} retry={reload} />}{props.children(data)}</>;
  }
  return error === undefined ? <Loading what={props.what} /> : <ErrorState error={error} retry={reload} />;
}

/** A line above content that is no longer fresh. */
export function Stale({ error, retry }: { error: unknown; retry: () => void }) {
  const message = error instanceof Error ? error.message : String(error);
  return (
    <p class="stale" role="alert">
      Not up to date: {message} <Again error={error} retry={retry} plain />
    </p>
  );
}
