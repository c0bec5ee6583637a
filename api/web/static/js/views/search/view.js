/** Which part of the values a plot shows. */
import { COMPLETE } from "./model.js";
import { BELOW, NONE } from "./stamps.js";

const SAMPLE = 2000;
const MOST_RATIO = 1e5; // of a log axis
const LEAST = 8; // complete trials that tell what is usual

/**
 * [low, high] along x, and along y without a tail of bad trials, which would leave no room for the good. The range before is
 * kept where it still serves: axes that jump with each trial are hard to read, and all points had to be drawn again.
 */
export function wholeRange(before, { trials, x, y, place, limit }) {
  const spans = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
  const sample = [];
  const step = Math.max(1, Math.ceil(trials.count / SAMPLE));
  for (let row = 0; row < trials.count; row += 1) {
    if (place(row) === NONE) continue;
    widen(spans.x, x.of(row));
    const value = y.of(row);
    if (value !== value) continue;
    widen(spans.y, value);
    if (row % step === 0 && trials.status[row] === COMPLETE) sample.push(value);
  }
  if (limit !== undefined) widen(spans.x, limit);
  if (!y.log && sample.length >= LEAST) {
    sample.sort((one, other) => one - other);
    const usual = sample[Math.floor(sample.length / 20)];
    const [low, high] = spans.y;
    if (high > usual && high - low > 2.5 * (high - usual)) spans.y[0] = usual - 0.2 * (high - usual);
  }
  if (y.log) spans.y[0] = Math.max(spans.y[0], spans.y[1] / MOST_RATIO);
  return { x: steady(before?.x, spans.x, x), y: steady(before?.y, spans.y, y) };
}

function steady(before, span, axis) {
  const now = padded(span, axis);
  if (!before || before[0] > span[0] || before[1] < span[1]) return now;
  const to = axis.log ? Math.log10 : (v) => v;
  return to(now[1]) - to(now[0]) > 0.6 * (to(before[1]) - to(before[0])) ? before : now;
}

/** How many trials lie below what is shown. */
export function countBelow({ trials, place, range }) {
  let below = 0;
  for (let row = 0; row < trials.count; row += 1) below += place(row, range) === BELOW;
  return below;
}

/** Where a log axis has its lines: at powers of ten, and between them where there is room. */
export function logSplits(low, high) {
  const splits = [];
  const between = high / low < 8 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : high / low < 100 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of between) splits.push(Number(`${factor}e${power}`));
  }
  return splits.filter((value) => value >= low && value <= high);
}

function widen(span, value) {
  if (value < span[0]) span[0] = value;
  if (value > span[1]) span[1] = value;
}

function padded([low, high], { log, whole, least, most }) {
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (whole) return [-0.02 * Math.max(10, high), 1.03 * Math.max(10, high)];
  if (log) return [low / 1.25, high * 1.25];
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  return [Math.max(low - room, least ?? -Infinity), Math.min(high + room, most ?? Infinity)];
}
