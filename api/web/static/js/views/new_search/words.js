/** Numbers of this page as people say them. */
import { compact, digits } from "../../core/format.js";

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** 829 M; from a thousand million on 2.0 · 10¹⁷. */
export function many(n) {
  if (n < 1e12) return compact(n);
  const power = Math.floor(Math.log10(n));
  return `${(n / 10 ** power).toFixed(1)}\u00a0·\u00a010${[...String(power)].map((digit) => RAISED[digit]).join("")}`;
}

/** A share in percent, with the digits that matter; a tiny one as one in so many. */
export function share(x) {
  if (x === 0) return "none";
  if (x < 1e-6) return `one in ${many(1 / x)}`;
  if (x > 0.999 && x < 1) return "nearly all";
  return `${digits(100 * x)}\u00a0%`;
}

/** "3 × 32 × 32" of [channels, height, width]. */
export function picture([channels, height, width]) {
  return `${height} × ${width} px, ${channels === 1 ? "grey" : channels === 3 ? "colour" : `${channels} channels`}`;
}
