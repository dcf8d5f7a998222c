/**
 * Smoothing by an exponential moving average over x itself, not over the number of points.
 *
 * The average at x of the line f is the integral of f(u)·exp(-(x - u)/tau)/tau over all u ≤ x, where f is the polyline
 * through the points, and constant before its first point. Integrated piece by piece this is
 *
 *     a  = (x[i] - x[i-1]) / tau
 *     w  = exp(-a)
 *     w2 = (1 - w) / a
 *     s[i] = w·s[i-1] + (1 - w2)·y[i] + (w2 - w)·y[i-1]
 *
 * which is EMA_lin in A. Eckner, "Algorithms for Unevenly Spaced Time Series: Moving Averages and Other Rolling
 * Operators" (2019), after U. A. Müller, "Specially weighted moving averages with repeated application of the EMA
 * operator" (1991). A point that is added on the polyline changes nothing: the result depends neither on how densely
 * a line was logged nor on its length, and `tau` has the unit of x.
 */

/**
 * The smoothed y of each point.
 *
 * A y that is not finite is left out, and its place in the result is NaN. Where x does not increase (rows of an earlier
 * attempt), the average starts anew.
 *
 * @param tau the time constant, in units of x; 0 or less returns y itself
 */
export function ema(x: Float64Array, y: Float64Array, tau: number): Float64Array {
  if (!(tau > 0)) return y;
  const out = new Float64Array(y.length);
  let lastX = NaN;
  let lastY = NaN;
  let average = NaN;
  for (let i = 0; i < y.length; i++) {
    const value = y[i]!;
    if (!Number.isFinite(value)) {
      out[i] = NaN;
      continue;
    }
    // Two values at one x are a step of the polyline: it has no width, so no weight.
    const a = (x[i]! - lastX) / tau;
    if (a > 0) {
      const w = Math.exp(-a);
      // 1 - a/2 is (1 - w)/a to the last digit where a is tiny and 1 - w has lost its digits.
      const w2 = a < 1e-6 ? 1 - a / 2 : -Math.expm1(-a) / a;
      average = w * average + (1 - w2) * value + (w2 - w) * lastY;
    } else if (a !== 0) {
      average = value;
    }
    lastX = x[i]!;
    lastY = value;
    out[i] = average;
  }
  return out;
}

/** The time constants that the slider offers for a line of this length: 0, then 1, 2, 5, 10, … times the smallest. */
export function constants(length: number): number[] {
  if (!(length > 0)) return [0];
  const largest = length / 4;
  const out = [0];
  for (let exponent = Math.floor(Math.log10(length)) - 4; ; exponent++) {
    for (const digit of [1, 2, 5]) {
      const tau = Number(`${digit}e${exponent}`);
      if (tau > largest) return out;
      if (tau >= length / 5000) out.push(tau);
    }
  }
}
