// A table of any number of lines, of which only those in view exist: fixed height of the lines, fixed widths of the columns.
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { heading, type Sort } from "./paths";
import { columnsIn, windowOf } from "./layout";
import { useResize } from "./resize";

export const ROW = 30; // pixels; the same as --row of theme.css
const HEAD = 42;
const MORE = 6; // lines before and after those in view

export interface GridColumn {
  path: string;
  width: number;
  numeric: boolean;
}

export interface GridProps {
  label: string;
  count: number;
  columns: readonly GridColumn[];
  nameWidth: number;
  /** The content of a line: its leading cell and its cells, or one cell over all columns. */
  line: (index: number) => { lead: ComponentChildren; cell?: (path: string) => ComponentChildren; selected?: boolean; heading?: boolean };
  sort: readonly Sort[];
  onSort: (path: string, add: boolean) => void;
  onWidth: (path: string, width: number) => void;
  onMove: (path: string, by: number) => void;
  /** The lines in view, whenever they change. */
  onView: (first: number, count: number) => void;
  /** A key on the line at `index`; true if it was taken. */
  onKey: (event: KeyboardEvent, index: number) => boolean;
  onLine: (event: MouseEvent, index: number) => void;
  leadHead: ComponentChildren;
  busy: boolean;
}

export function Grid(props: GridProps) {
  const { count, columns, nameWidth } = props;
  const element = useRef<HTMLDivElement>(null);
  const [place, setPlace] = useState({ top: 0, left: 0, height: 0, width: 0 }); // until it is measured, nothing is in view
  const [active, setActive] = useState(0);

  const measure = (): void => {
    const its = element.current;
    if (!its) return;
    setPlace((before) => {
      const next = { top: Math.floor(its.scrollTop / ROW) * ROW, left: Math.floor(its.scrollLeft / 40) * 40, height: its.clientHeight, width: its.clientWidth };
      const same = before.top === next.top && before.left === next.left && before.height === next.height && before.width === next.width;
      return same ? before : next;
    });
  };
  useLayoutEffect(() => {
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element.current!);
    return () => observer.disconnect();
  }, []);

  const edges = useMemo(() => columns.reduce((found, each) => [...found, found.at(-1)! + each.width], [0]), [columns]);
  const { first, shown } = place.height > 0 ? windowOf(place.top, place.height - HEAD, ROW, count, MORE) : { first: 0, shown: 0 };
  const { from, to } = columnsIn(edges, place.left - 200, place.width + 440);
  const visible = columns.slice(from, to);
  const template = [nameWidth, edges[from] ?? 0, ...visible.map((each) => each.width)].map((each) => `${each}px`).join(" ");
  const width = nameWidth + edges.at(-1)!;
  useEffect(() => props.onView(first, shown), [first, shown, count]);
  useEffect(() => setActive((before) => Math.max(0, Math.min(before, count - 1))), [count]);

  const move = (index: number): void => {
    const next = Math.max(0, Math.min(count - 1, index));
    setActive(next);
    const its = element.current!;
    const inner = its.clientHeight - HEAD;
    if (next * ROW < its.scrollTop) its.scrollTop = next * ROW;
    else if ((next + 1) * ROW > its.scrollTop + inner) its.scrollTop = (next + 1) * ROW - inner;
  };
  const keyed = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget) return;
    const page = Math.max(1, Math.floor((place.height - HEAD) / ROW) - 1);
    const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: count - 1 }[event.key];
    if (props.onKey(event, active)) event.preventDefault();
    else if (to !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      if (event.shiftKey && to !== active) props.onKey(new KeyboardEvent("keydown", { key: "Extend" }), Math.max(0, Math.min(count - 1, to)));
      move(to);
    }
  };

  // A line that leaves the view gives its elements to one that enters it; the others are not rendered again.
  const slots = Math.ceil(place.height / ROW) + 2 + 2 * MORE;
  const rendered = useMemo(() => new Map<number, VNode>(), [props, template, width, active, slots]);
  for (const index of rendered.keys()) if (index < first || index >= first + shown) rendered.delete(index);
  const lines = [];
  for (let index = first; index < first + shown; index++) {
    const known = rendered.get(index);
    if (known) {
      lines.push(known);
      continue;
    }
    const line = props.line(index);
    const made = (
      <Kept key={index % slots}>
        <div
          id={`line-${index}`}
          role="row"
          aria-rowindex={index + 2}
          aria-selected={line.selected}
          class={`line${line.heading ? " group" : ""}${line.selected ? " selected" : ""}${index === active ? " active" : ""}`}
          style={{ transform: `translateY(${index * ROW}px)`, gridTemplateColumns: line.cell ? template : `${width}px`, width: `${width}px` }}
          onClick={(event) => { setActive(index); props.onLine(event, index); }}
        >
          <div role={line.heading ? "gridcell" : "rowheader"} aria-colindex={1} class="lead">{line.lead}</div>
          {line.cell && <div role="presentation" />}
          {line.cell && visible.map((column, place) => (
            <div key={column.path} role="gridcell" aria-colindex={from + place + 2} class={column.numeric ? "number" : undefined}>{line.cell!(column.path)}</div>
          ))}
        </div>
      </Kept>
    );
    rendered.set(index, made);
    lines.push(made);
  }
  return (
    <div
      ref={element}
      class="datagrid"
      role="grid"
      tabIndex={0}
      aria-label={props.label}
      aria-rowcount={count + 1}
      aria-colcount={columns.length + 1}
      aria-multiselectable
      aria-busy={props.busy}
      aria-activedescendant={count ? `line-${active}` : undefined}
      onScroll={measure}
      onKeyDown={keyed}
    >
      <div class="head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template, width: `${width}px` }}>
        <div role="columnheader" aria-colindex={1} class="lead">{props.leadHead}</div>
        <div role="presentation" />
        {visible.map((column, place) => (
          <Heading key={column.path} column={column} at={from + place} {...props} />
        ))}
      </div>
      <div class="body" role="presentation" style={{ height: `${count * ROW}px`, width: `${width}px` }}>{lines}</div>
    </div>
  );
}

/** A part that Preact leaves as it is when the same one is given again: of an element, it would look at each part. */
function Kept({ children }: { children: ComponentChildren }) {
  return <>{children}</>;
}

function Heading({ column, at, sort, onSort, onWidth, onMove }: { column: GridColumn; at: number } & GridProps) {
  const { over, label } = heading(column.path);
  const place = sort.findIndex((each) => each.path === column.path);
  const its = sort[place];
  const resize = useResize(column.width, (width) => onWidth(column.path, width));
  const keyed = (event: KeyboardEvent): void => {
    if (!event.altKey || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
    event.preventDefault();
    onMove(column.path, event.key === "ArrowLeft" ? -1 : 1);
  };
  return (
    <div
      role="columnheader"
      aria-colindex={at + 2}
      aria-sort={its ? (its.descending ? "descending" : "ascending") : undefined}
      class={column.numeric ? "number" : undefined}
      onDragOver={(event) => event.dataTransfer?.types.includes(COLUMN) && event.preventDefault()}
      onDrop={(event) => {
        const from = Number(event.dataTransfer?.getData(COLUMN).split(" ")[0]);
        const path = event.dataTransfer?.getData(COLUMN).split(" ").slice(1).join(" ");
        if (path) onMove(path, at - from);
      }}
    >
      <button
        type="button"
        class="plain"
        draggable
        title={`${column.path}\nClick: sort. Shift and click: sort by this too. Drag, or Alt and arrow keys: move.`}
        onClick={(event) => onSort(column.path, event.shiftKey)}
        onKeyDown={keyed}
        onDragStart={(event) => event.dataTransfer?.setData(COLUMN, `${at} ${column.path}`)}
      >
        {over && <span class="over"><bdi>{over}</bdi></span>}
        <span class="label"><bdi>{label}</bdi>{its && <span aria-hidden="true">{its.descending ? " ↓" : " ↑"}{sort.length > 1 ? place + 1 : ""}</span>}</span>
      </button>
      <span class="resize" {...resize} aria-label={`Width of ${label.slice(0, 60)}`} />
    </div>
  );
}

const COLUMN = "application/x-trialstream-column";
