// Pieces that several views use: a menu, a dialog, tabs, a lazily loaded view.
import type { ComponentChildren, ComponentType } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ErrorState, Loading } from "./states";

/** A button that opens a list of actions; arrow keys move, Escape closes. */
export function Menu({ label, items, title }: {
  label: ComponentChildren;
  title?: string;
  items: readonly { label: string; action: () => void }[];
}) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event): void => void (root.current?.contains(event.target as Node) || setOpen(false));
    document.addEventListener("pointerdown", outside);
    root.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  const close = (): void => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const move = (event: KeyboardEvent): void => {
    const buttons = [...(root.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") buttons[(at + 1) % buttons.length]?.focus();
    else if (event.key === "ArrowUp") buttons[(at - 1 + buttons.length) % buttons.length]?.focus();
    else if (event.key === "Tab") return setOpen(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="menu" ref={root}>
      <button type="button" title={title} aria-haspopup="menu" aria-expanded={open} onClick={() => setOpen(!open)}>{label}</button>
      {open && (
        <div class="list" role="menu" onKeyDown={move}>
          {items.map((each) => (
            <button type="button" role="menuitem" tabIndex={-1} key={each.label} onClick={() => { close(); each.action(); }}>
              {each.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** "Export ▾" with its formats: `{ CSV: () => …, PNG: () => … }`. */
export function ExportMenu({ formats, of }: { formats: Record<string, () => void>; of: string }) {
  const items = Object.entries(formats).map(([label, action]) => ({ label, action }));
  return <Menu label="Export" title={`Export ${of}`} items={items} />;
}

/** A modal dialog, closed by Escape, by its button, or by a click beside it. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog
      ref={element}
      aria-labelledby={id}
      onClose={close}
      onClick={(event) => event.target === element.current && close()}
    >
      <div class="dialog">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" class="plain" aria-label="Close" onClick={close}>✕</button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** Tabs as links: each is a place of its own. */
export function Tabs<T extends string>({ label, tabs, shown, address }: {
  label: string;
  tabs: readonly (readonly [T, string])[];
  shown: T;
  address: (tab: T) => string;
}) {
  const row = useRef<HTMLElement>(null);
  // On a narrow screen the row of tabs scrolls; the page itself stays where it is.
  useEffect(() => {
    const here = row.current?.querySelector<HTMLElement>("[aria-current]");
    if (here) row.current!.scrollLeft = here.offsetLeft + here.offsetWidth / 2 - row.current!.clientWidth / 2;
  }, [shown]);
  return (
    <nav class="tabs" aria-label={label} ref={row}>
      {tabs.map(([tab, name]) => (
        <a key={tab} href={address(tab)} aria-current={tab === shown ? "page" : undefined}>{name}</a>
      ))}
    </nav>
  );
}

/** A view that is loaded when it is first shown. */
export function lazily<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | undefined;
  return function Lazy(props: P) {
    const [error, setError] = useState<unknown>();
    const [, setTurn] = useState(0);
    useEffect(() => {
      if (loaded) return;
      load().then((view) => { loaded = view; setTurn((before) => before + 1); }, setError);
    }, []);
    const View = loaded;
    if (View) return <View {...props} />;
    return error ? <ErrorState error={error} retry={() => location.reload()} /> : <Loading />;
  };
}

/** The title of the window, as long as the view is shown. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title.slice(0, 100)} · trialstream` : "trialstream";
  }, [title]);
}
