/** Which colour and dash pattern a curve has. */

/** How many colours there are: the custom properties --c0 to --c7 of the style sheet, the palette of Okabe and Ito. */
export const COLOURS = 8;

/** Dash patterns in CSS pixels. Curves that share a colour differ by these, so no curve is told by its colour alone. */
export const DASHES: readonly (readonly number[])[] = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [5, 2, 2, 2, 2, 2]];

/** The colour and the dash pattern of a curve: 48 different ones, then they repeat. */
export function look(index: number): { colour: number; dash: readonly number[] } {
  const place = Math.max(0, Math.floor(index));
  return { colour: place % COLOURS, dash: DASHES[Math.floor(place / COLOURS) % DASHES.length]! };
}

/** Indices for curves: each key keeps the one that it was given first, however many others come and go. */
export class Looks {
  private readonly given = new Map<string, number>();

  /** The index of a key. */
  of(key: string): number {
    let index = this.given.get(key);
    if (index === undefined) {
      index = this.given.size;
      this.given.set(key, index);
    }
    return index;
  }
}
