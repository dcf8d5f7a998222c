/**
 * The canvas of a chart: uPlot draws axes and grid, this file the curves, bands and marks on it.
 *
 * uPlot's scales are always from 0 to 1, the places within the ranges that are shown: its own arithmetic would fail on ranges
 * beyond a double or below its digits.
 */

import uPlot from "uplot";
import { ema } from "./ema";
import type { Frame, Polyline } from "./frame";
import { frameOf, markOutlines, outline, polyline, type Scales } from "./frame";
import { COLOURS, look } from "./palette";
import { placeOf } from "./ranges";
import { tickLabels, xTicks, yTicks } from "./ticks";
import type { Band, Line, XKind } from "./types";
import { NO_MARKS } from "./types";

/** All that a plot shows. Lines and bands that are hidden are not in it. */
export interface Scene extends Scales {
  readonly lines: readonly Line[];
  readonly bands: readonly Band[];
  readonly xKind: XKind;
  /** Time constant of the smoothing, in units of x; 0 for none. */
  readonly tau: number;
  /** The curve that stands out, by its key. */
  readonly focus: string | null;
}

/** The colours of the page, read from its custom properties. */
export interface Colours {
  readonly text: string;
  readonly muted: string;
  readonly grid: string;
  readonly paper: string;
  readonly bad: string;
  readonly curves: readonly string[];
}

export function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element);
  const read = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: read("--text"), muted: read("--muted"), grid: read("--line"), paper: read("--back"), bad: read("--failed"),
    curves: Array.from({ length: COLOURS }, (_, i) => read(`--s${i}`)),
  };
}

/** A path, and how far it goes up and down, pixels. */
interface Drawn {
  readonly path: Path2D;
  readonly rise: number;
}

interface Cached extends Drawn {
  readonly points: Polyline | Float64Array;
  readonly frame: string;
}

/**
 * The most that a dashed line goes up and down, in heights of the plot. One that does in each pixel has as many dashes as
 * a hundred others, which take seconds to draw and are not seen.
 */
const MOST_RISE = 30;

/** A plot in an element. Drawing waits for the next frame of the screen, however often the scene changes before it. */
export class Plot {
  private readonly uplot: uPlot;
  private readonly dark = matchMedia("(prefers-color-scheme: dark)");
  private scene: Scene;
  private colours: Colours;
  private pending = 0;
  private xTicks: number[] = [];
  private yTicks: number[] = [];
  private paths = new Map<string, Cached>();
  private smooth = new WeakMap<Float64Array, { tau: number; y: Float64Array }>();

  constructor(private readonly host: HTMLElement, scene: Scene, width: number, height: number, private readonly compact: boolean) {
    this.scene = scene;
    this.colours = coloursOf(host);
    this.uplot = new uPlot(this.options(width, height), [[0, 1]], host);
    this.dark.addEventListener("change", this.recolour);
  }

  /** The element over the plot's rectangle, for gestures. */
  get over(): HTMLElement {
    return this.uplot.over;
  }

  /** The canvas, for a copy as PNG. */
  get canvas(): HTMLCanvasElement {
    return this.uplot.ctx.canvas;
  }

  /** The plot's rectangle in CSS pixels, relative to the host. */
  get frame(): Frame {
    const { over } = this.uplot;
    return frameOf(over.offsetLeft, over.offsetTop, over.offsetWidth, over.offsetHeight, this.scene);
  }

  update(scene: Scene): void {
    this.scene = scene;
    this.pending ||= requestAnimationFrame(() => this.draw());
  }

  resize(width: number, height: number): void {
    if (this.uplot.width !== width || this.uplot.height !== height) this.uplot.setSize({ width, height });
  }

  destroy(): void {
    cancelAnimationFrame(this.pending);
    this.dark.removeEventListener("change", this.recolour);
    this.uplot.destroy();
  }

  /** The smoothed y of a line, computed once. */
  smoothed(line: Line): Float64Array {
    const { tau } = this.scene;
    if (!(tau > 0)) return line.y;
    let kept = this.smooth.get(line.y);
    if (kept?.tau !== tau) {
      kept = { tau, y: ema(line.x, line.y, tau) };
      this.smooth.set(line.y, kept);
    }
    return kept.y;
  }

  private readonly recolour = () => {
    this.colours = coloursOf(this.host);
    this.uplot.redraw(false, true);
  };

  private draw(): void {
    this.pending = 0;
    this.uplot.redraw(false, true);
  }

  private options(width: number, height: number): uPlot.Options {
    const font = `${this.compact ? 10.5 : 11.5}px ${getComputedStyle(this.host).fontFamily}`;
    const axis = (more: uPlot.Axis): uPlot.Axis => ({
      stroke: () => this.colours.muted,
      font,
      grid: { stroke: () => this.colours.grid, width: 1 },
      ticks: { show: false },
      border: { show: false },
      ...more,
    });
    return {
      width,
      height,
      series: [{}],
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 14, 0, 0],
      scales: {
        x: { time: false, range: [0, 1] },
        y: { auto: false, range: [0, 1] },
      },
      axes: [
        axis({ size: this.compact ? 22 : 28, gap: 4, splits: (u) => this.xSplits(u), values: () => tickLabels(this.scene.xKind, this.xTicks) }),
        axis({
          scale: "y",
          size: (u, values) => this.ySize(u, values),
          gap: 6,
          splits: (u) => this.ySplits(u),
          values: () => tickLabels("value", this.yTicks),
        }),
      ],
      hooks: {
        draw: [() => this.drawCurves()],
        ready: [(u) => u.setScale("y", { min: 0, max: 1 })],
      },
    };
  }

  private xSplits(u: uPlot): number[] {
    const { x, xKind, xLog } = this.scene;
    const room = u.over.offsetWidth || u.width - 50;
    this.xTicks = xTicks(xKind, x, Math.max(2, Math.floor(room / (xKind === "time" ? 110 : 80))), xLog);
    return x === null ? [] : this.xTicks.map((tick) => placeOf(x, tick, xLog));
  }

  private ySplits(u: uPlot): number[] {
    const { y, yLog } = this.scene;
    const count = Math.max(2, Math.floor((u.over.offsetHeight || u.height - 30) / 36));
    this.yTicks = yTicks(y, count, yLog);
    return y === null ? [] : this.yTicks.map((tick) => placeOf(y, tick, yLog));
  }

  /** The width of the labels of y. A chart in a grid has at least 44 pixels, so that neighbours align. */
  private ySize(u: uPlot, values: string[] | null): number {
    u.ctx.save();
    u.ctx.font = `${11.5 * devicePixelRatio}px ${getComputedStyle(this.host).fontFamily}`;
    const widest = Math.max(0, ...(values ?? []).map((value) => u.ctx.measureText(value).width / devicePixelRatio));
    u.ctx.restore();
    return Math.max(44, Math.ceil(widest) + 12);
  }

  private drawCurves(): void {
    const { ctx, bbox } = this.uplot;
    const { lines, bands, tau, focus } = this.scene;
    const frame = frameOf(bbox.left, bbox.top, bbox.width, bbox.height, this.scene);
    const signature = JSON.stringify(frame);
    const used = new Map<string, Cached>();
    const path = (key: string, points: Float64Array, make: () => Polyline, closed = false) => {
      const before = this.paths.get(key);
      // Only a curve that has new points, or another frame, is laid out anew.
      const made = before?.points === points && before.frame === signature ? before : { points, frame: signature, ...pathOf(make(), closed) };
      used.set(key, made);
      return made;
    };
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const dimmed = (key: string) => (focus === null || focus === key ? 1 : 0.25);
    for (const band of bands) {
      ctx.globalAlpha = 0.18 * dimmed(band.key);
      ctx.fillStyle = this.colours.curves[look(band.colour).colour]!;
      ctx.fill(path(`area ${band.key}`, band.low, () => outline(frame, band.x, band.low, band.high), true).path);
      this.stroke(path(`mid ${band.key}`, band.mid, () => polyline(frame, band.x, band.mid, NO_MARKS)), band.colour, 1.6, dimmed(band.key));
      this.marks(band, frame, dimmed(band.key));
    }
    const inFront = [...lines].sort((a, b) => Number(a.key === focus) - Number(b.key === focus));
    for (const line of inFront) {
      // Where each pixel has its least and its greatest row, a thin line leaves more of them apart.
      const dense = line.x.length > 2 * bbox.width / devicePixelRatio && !(tau > 0);
      const wide = line.key === focus && lines.length > 1 ? 2.4 : dense ? 1 : 1.5;
      const raw = () => path(`raw ${line.key}`, line.y, () => polyline(frame, line.x, line.y, line.marks));
      if (tau > 0) {
        this.stroke(raw(), line.colour, 1, 0.28 * dimmed(line.key), false);
        const y = this.smoothed(line);
        this.stroke(path(`ema ${line.key}`, y, () => polyline(frame, line.x, y, line.marks)), line.colour, wide, dimmed(line.key));
      } else {
        this.stroke(raw(), line.colour, wide, dimmed(line.key));
      }
      if (line.x.length === 1 || (line.x.length <= 60 && !this.compact)) this.dots(line, frame, dimmed(line.key));
      this.marks(line, frame, dimmed(line.key));
    }
    ctx.restore();
    this.paths = used;
  }

  private stroke({ path, rise }: Drawn, index: number, width: number, alpha: number, dashed = true): void {
    const { ctx, bbox } = this.uplot;
    const { colour, dash } = look(index);
    ctx.globalAlpha = alpha;
    ctx.strokeStyle = this.colours.curves[colour]!;
    ctx.lineWidth = width * devicePixelRatio;
    const isDense = rise > MOST_RISE * bbox.height;
    ctx.lineJoin = isDense ? "bevel" : "round";
    ctx.setLineDash(dashed && !isDense ? dash.map((each) => each * devicePixelRatio) : []);
    ctx.stroke(path);
    ctx.setLineDash([]);
  }

  /** The points of a line that has few. */
  private dots(line: Line, frame: Frame, alpha: number): void {
    const { ctx } = this.uplot;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = this.colours.curves[look(line.colour).colour]!;
    const points = polyline(frame, line.x, line.y, NO_MARKS);
    for (let i = 0; i < points.length; i += 2) {
      ctx.beginPath();
      ctx.arc(points[i]!, points[i + 1]!, 2.2 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fill();
    }
  }

  private marks({ marks }: Line | Band, frame: Frame, alpha: number): void {
    const { ctx } = this.uplot;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = this.colours.bad;
    ctx.fill(pathOf(markOutlines(frame, marks, devicePixelRatio), true).path);
  }
}

function pathOf(points: Polyline, closed: boolean): Drawn {
  const path = new Path2D();
  let rise = 0;
  let pen = false;
  for (let i = 0; i < points.length; i += 2) {
    if (Number.isNaN(points[i])) {
      if (closed) path.closePath();
      pen = false;
    } else if (pen) {
      path.lineTo(points[i]!, points[i + 1]!);
      rise += Math.abs(points[i + 1]! - points[i - 1]!);
    } else {
      path.moveTo(points[i]!, points[i + 1]!);
      pen = true;
    }
  }
  if (closed && pen) path.closePath();
  return { path, rise };
}
