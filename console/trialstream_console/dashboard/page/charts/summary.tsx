/** A chart as a table, for readers who do not see it. */

import { cut, short } from "../format";
import type { Band, Line } from "./types";

export function Summary({ title, lines, bands, id }: { title: string; lines: readonly Line[]; bands: readonly Band[]; id: string }) {
  return (
    <div class="sr" id={id}>
      <table>
        <caption>{cut(title, 200)}: the curves in numbers</caption>
        <thead>
          <tr><th>Curve</th><th>Rows</th><th>First</th><th>Last</th><th>Least</th><th>Greatest</th><th>NaN</th><th>Infinite</th></tr>
        </thead>
        <tbody>
          {lines.map((line) => {
            const [least, greatest] = extremes(line.y);
            return (
              <tr key={line.key}>
                <th scope="row">{cut(line.label, 120)}</th>
                <td>{line.total}</td>
                <td>{value(line.y[0])}</td>
                <td>{value(line.y[line.y.length - 1])}</td>
                <td>{value(least)}</td>
                <td>{value(greatest)}</td>
                <td>{line.counts.nan}</td>
                <td>{line.counts.inf + line.counts.neginf}</td>
              </tr>
            );
          })}
          {bands.map((band) => (
            <tr key={band.key}>
              <th scope="row">{cut(band.label, 120)}, a band</th>
              <td>{band.x.length}</td>
              <td>{value(band.mid[0])}</td>
              <td>{value(band.mid[band.mid.length - 1])}</td>
              <td>{value(extremes(band.low)[0])}</td>
              <td>{value(extremes(band.high)[1])}</td>
              <td>{band.counts.nan}</td>
              <td>{band.counts.inf + band.counts.neginf}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function value(number: number | undefined): string {
  return number === undefined ? "none" : short(number);
}

function extremes(y: Float64Array): [number | undefined, number | undefined] {
  let least: number | undefined;
  let greatest: number | undefined;
  for (const each of y) {
    if (Number.isNaN(each)) continue;
    if (least === undefined || each < least) least = each;
    if (greatest === undefined || each > greatest) greatest = each;
  }
  return [least, greatest];
}
