/** A chart as an SVG file. */

import { ema } from "./ema";
import type { Frame, Polyline, Scales } from "./frame";
import { frameOf, markOutlines, outline, pixelX, pixelY, polyline } from "./frame";
import { look } from "./palette";
import { tickLabels, xTicks, yTicks } from "./ticks";
import type { Band, Line, XKind } from "./types";
import { NO_MARKS } from "./types";

/** What an exported chart shows. */
export interface Figure extends Scales {
  readonly title: string;
  readonly xLabel: string;
  readonly xKind: XKind;
  readonly lines: readonly Line[];
  readonly bands: readonly Band[];
  readonly tau: number;
}

/** The colours of an exported chart: those of the page when it was exported. */
export interface Ink {
  readonly paper: string;
  readonly ink: string;
  readonly muted: string;
  readonly grid: string;
  readonly bad: string;
  readonly curves: readonly string[];
}

const ROW = 18;

/** The text of an SVG file, with axes, legend and title. */
export function svgOf(figure: Figure, ink: Ink, width = 960, height = 480): string {
  const entries = [...figure.lines, ...figure.bands];
  const full = height + entries.length * ROW + 12;
  const frame = frameOf(64, 40, width - 84, height - 88, figure);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${full}" viewBox="0 0 ${width} ${full}" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escaped(figure.title)}</title>`,
    `<rect width="${width}" height="${full}" fill="${escaped(ink.paper)}"/>`,
    text(frame.left, 24, figure.title, ink.ink, 'font-size="15" font-weight="600"'),
    `<clipPath id="plot"><rect x="${frame.left}" y="${frame.top}" width="${frame.width}" height="${frame.height}"/></clipPath>`,
    ...axes(figure, frame, ink),
    '<g clip-path="url(#plot)" fill="none" stroke-linejoin="round">',
    ...figure.bands.flatMap((band) => bandParts(band, frame, ink)),
    ...figure.lines.flatMap((line) => lineParts(line, figure.tau, frame, ink)),
    ...[...figure.bands, ...figure.lines].map(({ marks }) => `<path d="${pathOf(markOutlines(frame, marks, 1), true)}" fill="${escaped(ink.bad)}"/>`),
    "</g>",
    ...entries.flatMap((entry, i) => {
      const y = height + i * ROW;
      return [`<path d="M${frame.left} ${y}h28"${stroke(entry.colour, ink, 2)}/>`, text(frame.left + 36, y + 4, entry.label, ink.ink)];
    }),
    "</svg>",
  ];
  return parts.join("\n");
}

/** Text as XML: the five characters of markup escaped, and those that XML forbids replaced. */
export function escaped(value: string): string {
  return value
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
    .replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`);
}

function axes(figure: Figure, frame: Frame, ink: Ink): string[] {
  const out: string[] = [];
  const bottom = frame.top + frame.height;
  const ticksX = xTicks(figure.xKind, figure.x, 8, figure.xLog);
  const labelsX = tickLabels(figure.xKind, ticksX);
  ticksX.forEach((tick, i) => {
    const at = places(pixelX(frame, tick));
    out.push(`<path d="M${at} ${frame.top}V${bottom}" stroke="${escaped(ink.grid)}"/>`);
    out.push(text(Number(at), bottom + 18, labelsX[i]!, ink.muted, 'text-anchor="middle"'));
  });
  const ticksY = yTicks(figure.y, 7, figure.yLog);
  const labelsY = tickLabels("value", ticksY);
  ticksY.forEach((tick, i) => {
    const at = places(pixelY(frame, tick));
    out.push(`<path d="M${frame.left} ${at}H${frame.left + frame.width}" stroke="${escaped(ink.grid)}"/>`);
    out.push(text(frame.left - 8, Number(at) + 4, labelsY[i]!, ink.muted, 'text-anchor="end"'));
  });
  out.push(text(frame.left + frame.width / 2, bottom + 36, figure.xLabel, ink.muted, 'text-anchor="middle"'));
  return out;
}

function bandParts(band: Band, frame: Frame, ink: Ink): string[] {
  const fill = escaped(ink.curves[look(band.colour).colour]!);
  return [
    `<path d="${pathOf(outline(frame, band.x, band.low, band.high), true)}" fill="${fill}" fill-opacity="0.2"/>`,
    `<path d="${pathOf(polyline(frame, band.x, band.mid, NO_MARKS))}"${stroke(band.colour, ink, 1.5)}/>`,
  ];
}

function lineParts(line: Line, tau: number, frame: Frame, ink: Ink): string[] {
  const raw = pathOf(polyline(frame, line.x, line.y, line.marks));
  if (!(tau > 0)) return [`<path d="${raw}"${stroke(line.colour, ink, 1.5)}/>`];
  const smooth = pathOf(polyline(frame, line.x, ema(line.x, line.y, tau), line.marks));
  return [`<path d="${raw}"${stroke(line.colour, ink, 1)} stroke-opacity="0.25"/>`, `<path d="${smooth}"${stroke(line.colour, ink, 1.8)}/>`];
}

function stroke(index: number, ink: Ink, width: number): string {
  const { colour, dash } = look(index);
  const pattern = dash.length > 0 ? ` stroke-dasharray="${dash.join(" ")}"` : "";
  return ` stroke="${escaped(ink.curves[colour]!)}" stroke-width="${width}"${pattern}`;
}

function pathOf(points: Polyline, closed = false): string {
  let out = "";
  let pen = "M";
  for (let i = 0; i < points.length; i += 2) {
    if (Number.isNaN(points[i])) {
      if (closed) out += "Z";
      pen = "M";
      continue;
    }
    out += `${pen}${places(points[i]!)} ${places(points[i + 1]!)}`;
    pen = "L";
  }
  return closed && out ? `${out}Z` : out;
}

function text(x: number, y: number, value: string, fill: string, more = ""): string {
  return `<text x="${places(x)}" y="${places(y)}" fill="${escaped(fill)}" ${more}>${escaped(value)}</text>`;
}

function places(value: number): string {
  return String(Math.round(value * 100) / 100);
}
