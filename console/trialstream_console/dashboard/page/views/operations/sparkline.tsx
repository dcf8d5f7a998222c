// A small line without axes: how a figure went in the last minutes.

export function Sparkline({ values, label, width = 90, height = 20 }: { values: readonly number[]; label: string; width?: number; height?: number }) {
  const most = Math.max(...values, 1e-9);
  const x = (i: number) => (values.length < 2 ? width : (i / (values.length - 1)) * (width - 2) + 1);
  const y = (value: number) => height - 2 - (value / most) * (height - 4);
  const path = values.map((value, i) => `${i === 0 ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return (
    <svg class="sparkline" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      {values.length > 1 && <path class="area" d={`${path}L${width - 1} ${height - 1}L1 ${height - 1}Z`} />}
      {values.length > 1 && <path class="line" d={path} />}
    </svg>
  );
}
