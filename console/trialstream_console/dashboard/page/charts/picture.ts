/** A chart as a picture: the canvas with title and legend. */

import { cut } from "../format";
import { look } from "./palette";
import type { Colours } from "./plot";
import type { Band, Line } from "./types";

const ROW = 18;
const TOP = 34;

/** A canvas with the title above the plot and the curves' names below it. */
export function pictureOf(plot: HTMLCanvasElement, title: string, entries: readonly (Line | Band)[], colours: Colours, scale: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = plot.width;
  canvas.height = plot.height + (TOP + 10 + entries.length * ROW) * scale;
  const context = canvas.getContext("2d")!;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(plot, 0, TOP * scale);
  context.scale(scale, scale);
  context.fillStyle = colours.text;
  context.font = "600 14px system-ui, sans-serif";
  context.fillText(cut(title, 200), 12, 22);
  context.font = "12px system-ui, sans-serif";
  entries.forEach((entry, i) => {
    const y = TOP + plot.height / scale + 10 + i * ROW;
    const { colour, dash } = look(entry.colour);
    context.strokeStyle = colours.curves[colour]!;
    context.lineWidth = 2;
    context.setLineDash([...dash]);
    context.beginPath();
    context.moveTo(12, y);
    context.lineTo(40, y);
    context.stroke();
    context.fillText(cut(entry.label, 200), 48, y + 4);
  });
  return canvas;
}
