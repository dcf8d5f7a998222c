// Tables and plots as files: CSV, JSON, PNG, SVG. Nothing leaves the browser but into its downloads.
import type { Value } from "./shapes";
import { full } from "./format";

/** Hand a file to the browser's downloads. */
export function download(name: string, content: Blob | string, type = "text/plain"): void {
  const blob = typeof content === "string" ? new Blob([content], { type: `${type};charset=utf-8` }) : content;
  const address = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = fileName(name);
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A name that every file system takes: letters, digits, dots and dashes. */
export function fileName(name: string): string {
  const safe = name.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|-+(?=\.)|-+$/g, "");
  return safe.slice(-100) || "trialstream";
}

export interface Column {
  name: string;
  values: ArrayLike<Value | undefined>;
}

/** Columns as CSV (RFC 4180). Texts that a spreadsheet would compute as formulas begin with an apostrophe. */
export function csv(columns: readonly Column[]): string {
  const rows = Math.max(0, ...columns.map((each) => each.values.length));
  const lines = [columns.map((each) => field(each.name)).join(",")];
  for (let row = 0; row < rows; row++) lines.push(columns.map((each) => field(each.values[row])).join(","));
  return `${lines.join("\r\n")}\r\n`;
}

function field(value: Value | undefined): string {
  if (value === undefined || value === null) return "";
  let content = full(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(content)) content = `'${content}`;
  return /[",\r\n]/.test(content) ? `"${content.replaceAll('"', '""')}"` : content;
}

export function downloadCsv(name: string, columns: readonly Column[]): void {
  download(`${name}.csv`, csv(columns), "text/csv");
}

export function downloadJson(name: string, value: unknown): void {
  download(`${name}.json`, JSON.stringify(value, null, 1), "application/json");
}

/** A canvas on the background of the page. */
export function downloadPng(name: string, canvas: HTMLCanvasElement): void {
  const copy = document.createElement("canvas");
  copy.width = canvas.width;
  copy.height = canvas.height;
  const context = copy.getContext("2d");
  if (!context) return;
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, copy.width, copy.height);
  context.drawImage(canvas, 0, 0);
  copy.toBlob((blob) => blob && download(`${name}.png`, blob));
}

/** The styles that an SVG of the page takes from its sheet, which a file does not have. */
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity", "font-size", "font-family", "text-anchor", "color"];

/** An SVG element of the page as a text of its own, with its computed styles as attributes. */
export function svgText(element: SVGSVGElement): string {
  const copy = element.cloneNode(true) as SVGSVGElement;
  const originals = [element, ...element.querySelectorAll("*")];
  const copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, index) => {
    const computed = getComputedStyle(original);
    for (const style of STYLES) copies[index]!.setAttribute(style, computed.getPropertyValue(style));
    copies[index]!.removeAttribute("class");
  });
  const { width, height } = element.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(Math.round(width)));
  copy.setAttribute("height", String(Math.round(height)));
  return new XMLSerializer().serializeToString(copy);
}

export function downloadSvg(name: string, svg: SVGSVGElement | string): void {
  download(`${name}.svg`, typeof svg === "string" ? svg : svgText(svg), "image/svg+xml");
}

/** An SVG element as PNG, twice as fine as it is shown. */
export function downloadSvgAsPng(name: string, element: SVGSVGElement): void {
  const { width, height } = element.getBoundingClientRect();
  const image = new Image();
  const address = URL.createObjectURL(new Blob([svgText(element)], { type: "image/svg+xml" }));
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * 2);
    canvas.height = Math.round(height * 2);
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(address);
    downloadPng(name, canvas);
  };
  image.src = address;
}
