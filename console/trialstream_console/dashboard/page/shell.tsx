// What is around every view: header, navigation, search, state of the connection, help.
import { useEffect, useRef, useState } from "preact/hooks";
import { loadAbout, useAbout } from "./about";
import { shortcuts, useShortcuts } from "./keyboard";
import { useConnection } from "./live";
import { Dialog, lazily } from "./parts";
import { go, link, usePlace } from "./router";
import { Empty } from "./states";
import { ProjectsView } from "./views/projects";
import { TrialsView } from "./views/trials";

const TrialView = lazily(() => import("./views/trial").then((module) => module.TrialView));
const CompareView = lazily(() => import("./views/compare").then((module) => module.CompareView));
const OperationsView = lazily(() => import("./views/operations").then((module) => module.OperationsView));

export function Shell() {
  const { path } = usePlace();
  const [help, setHelp] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => void loadAbout(), []);
  useShortcuts([
    { keys: "?", does: "Show this help", action: () => setHelp(true) },
    { keys: "/", does: "Go to the search field", action: () => search.current?.focus() },
    { keys: "g p", does: "Go to the projects", action: () => go("/") },
    { keys: "g t", does: "Go to all trials", action: () => go("/trials") },
    { keys: "g o", does: "Go to operations", action: () => go("/operations") },
  ]);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const words = search.current?.value.trim();
    if (words) go(link("/trials", { where: isQuery(words) ? words : `name ~ ${JSON.stringify(words)}` }));
  };
  return (
    <>
      <a class="skip" href="#main">Skip to the content</a>
      <header class="shell">
        <a class="brand" href="/"><img src="/static/icon.svg" alt="" width="22" height="22" /> trialstream</a>
        <nav aria-label="Views">
          {NAVIGATION.map(([address, name, here]) => (
            <a key={address} href={address} aria-current={here.test(path) ? "page" : undefined}>{name}</a>
          ))}
        </nav>
        <form role="search" onSubmit={submit}>
          <input ref={search} type="search" placeholder="Find trials   /" aria-label="Find trials by name, or by a query" spellcheck={false} />
        </form>
        <ConnectionState />
        <button type="button" class="plain help" aria-label="Keyboard help" title="Keyboard help (?)" onClick={() => setHelp(true)}>?</button>
      </header>
      <Away />
      <main id="main" tabIndex={-1}><View path={path} /></main>
      {help && <Help close={() => setHelp(false)} />}
    </>
  );
}

const NAVIGATION: readonly (readonly [string, string, RegExp])[] = [
  ["/", "Projects", /^\/$/],
  ["/trials", "Trials", /^\/(trials|projects|groups|compare)/],
  ["/operations", "Operations", /^\/operations/],
];

/** Whether words of the search field are a query rather than a part of a name. */
export function isQuery(words: string): boolean {
  return /[=<>~()]|\b(and|or|not|in|exists|contains)\b/.test(words);
}

function View({ path }: { path: string }) {
  const [kind = "", encoded] = path.split("/").slice(1);
  const uid = encoded && decoded(encoded);
  if (kind === "") return <ProjectsView />;
  if (kind === "projects" && uid) return <TrialsView key={path} project={uid} />;
  if (kind === "groups" && uid) return <TrialsView key={path} group={uid} />;
  if (kind === "trials") return uid ? <TrialView key={path} uid={uid} /> : <TrialsView key={path} />;
  if (kind === "compare") return <CompareView />;
  if (kind === "operations") return <OperationsView />;
  return <Empty title="There is no such page">Go to the <a href="/">projects</a>.</Empty>;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const LABELS = { connecting: "Connecting", open: "Live", lost: "Not connected", paused: "Paused" } as const;

function ConnectionState() {
  const { connection } = useConnection();
  return (
    <span class={`connection ${connection}`} role="status" title="Connection of this page to its server">
      <span class="dot" aria-hidden="true" /> <span>{LABELS[connection]}</span>
    </span>
  );
}

/** A line below the header while a server behind the dashboard is away. */
function Away() {
  const about = useAbout();
  const { connection, servers } = useConnection();
  const mongo = servers?.mongo ?? about?.mongo ?? "ok";
  const kafka = servers?.kafka ?? about?.kafka ?? "ok";
  const live = servers?.live ?? about?.live ?? "ok";
  const known = `${mongo} ${kafka}`;
  const before = useRef(known);
  useEffect(() => {
    if (before.current !== known) void loadAbout();
    before.current = known;
  }, [known]);
  const lines: string[] = [];
  if (connection === "lost") lines.push("The dashboard's server does not answer; the page connects again by itself.");
  if (mongo !== "ok") lines.push(`MongoDB is away: ${mongo}`);
  if (kafka !== "ok" && kafka !== "off") lines.push(`Kafka is away: ${kafka}`);
  if (live !== "ok") lines.push(`Pages do not follow changes: ${live}`);
  if (!lines.length) return null;
  return <div class="away" role="alert">{lines.map((line) => <p key={line}>{line}</p>)}</div>;
}

function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Keyboard" close={close}>
      <dl class="keys">
        {shortcuts().map((each) => (
          <div key={each.keys}>
            <dt>{each.keys.split(" ").map((key) => <kbd key={key}>{KEYS[key] ?? key}</kbd>)}</dt>
            <dd>{each.does}</dd>
          </div>
        ))}
        <div><dt><kbd>Tab</kbd></dt><dd>Go to the next control</dd></div>
        <div><dt><kbd>+</kbd><kbd>0</kbd></dt><dd>In a chart: zoom in, show all; − zooms out, arrows move</dd></div>
        <div><dt><kbd>Esc</kbd></dt><dd>Close what is open</dd></div>
      </dl>
    </Dialog>
  );
}

const KEYS: Record<string, string> = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", " ": "Space" };
