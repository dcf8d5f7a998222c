/** The line of a curve in a legend: its colour and its dash pattern. */

import { look } from "./palette";

export function Swatch({ index, width = 22 }: { index: number; width?: number }) {
  const { colour, dash } = look(index);
  return (
    <svg class={`swatch s${colour}`} width={width} height="10" viewBox={`0 0 ${width} 10`} aria-hidden="true">
      <path d={`M0 5H${width}`} stroke-dasharray={dash.length > 0 ? dash.join(" ") : undefined} />
    </svg>
  );
}
