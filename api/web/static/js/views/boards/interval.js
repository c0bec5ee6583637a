/** The interval of a table's predictions, from the networks that it was calibrated on (latency/interval.py). */

const Z = 1.6448536; // of the normal distribution: 95 % lie below
const FEWEST = 4;

/** Student's t, 95 %: the Cornish-Fisher expansion in 1/freedom; within 0.005 from 3 degrees of freedom on. */
function t95(freedom) {
  const [z, v] = [Z, freedom];
  return z + (z ** 3 + z) / (4 * v) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * v ** 2) + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * v ** 3)
    + (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / (92160 * v ** 4);
}

/** [below, above] in percent of the prediction, 90 % of networks between; null where too few were measured. */
export function intervalPct({ residuals, drift_sigma: drift }) {
  const n = residuals.length;
  if (n < FEWEST) return null;
  const mean = residuals.reduce((sum, x) => sum + x, 0) / n;
  const variance = residuals.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  const half = t95(n - 1) * Math.hypot(Math.sqrt(variance * (1 + 1 / n)), drift);
  return [100 * Math.expm1(mean - half), 100 * Math.expm1(mean + half)];
}
