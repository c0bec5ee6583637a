/** Order rows by a column of numbers: a radix sort, so that 100 000 rows take some milliseconds, and equals stay as they were. */

const BITS = 11;
const DIGITS = 1 << BITS;
const SHIFTS = [[0, 0], [0, 11], [0, 22], [1, 0], [1, 11], [1, 22]]; // [half of the 64 bits, shift in it], lowest digit first

/**
 * @param {Uint32Array} rows indices into `values`
 * @param {ArrayLike<number>} values NaN comes last in either direction
 * @returns {Uint32Array} the rows in order; equals as they were in `rows`, in either direction
 */
export function ordered(rows, values, down = false) {
  const keys = new Float64Array(rows.length);
  const known = new Uint32Array(rows.length);
  const unknown = [];
  let count = 0;
  for (const row of rows) {
    const value = values[row];
    if (value !== value) unknown.push(row);
    else {
      keys[count] = down ? -value : value;
      known[count] = row;
      count += 1;
    }
  }
  const halves = sortable(keys.subarray(0, count));
  let order = new Uint32Array(count).map((_, i) => i);
  let next = new Uint32Array(count);
  for (const [half, shift] of SHIFTS) {
    if (!pass(order, next, halves[half], shift)) continue;
    [order, next] = [next, order];
  }
  const sorted = new Uint32Array(rows.length);
  for (let i = 0; i < count; i += 1) sorted[i] = known[order[i]];
  sorted.set(unknown, count);
  return sorted;
}

/** The bits of the numbers as [low, high] halves that order as unsigned integers do. */
function sortable(keys) {
  const words = new Uint32Array(keys.buffer, keys.byteOffset, 2 * keys.length);
  const low = new Uint32Array(keys.length);
  const high = new Uint32Array(keys.length);
  for (let i = 0; i < keys.length; i += 1) {
    if (keys[i] === 0) keys[i] = 0; // -0 equals 0
    const [below, above] = [words[2 * i], words[2 * i + 1]];
    const negative = above >>> 31 === 1;
    low[i] = negative ? ~below : below;
    high[i] = negative ? ~above : above | 0x80000000;
  }
  return [low, high];
}

/** Order by one digit; false where all have the same one and nothing was to do. */
function pass(order, next, half, shift) {
  const starts = new Uint32Array(DIGITS + 1);
  for (let i = 0; i < order.length; i += 1) starts[((half[i] >>> shift) & (DIGITS - 1)) + 1] += 1;
  if (starts.includes(order.length, 1)) return false;
  for (let digit = 1; digit <= DIGITS; digit += 1) starts[digit] += starts[digit - 1];
  for (let i = 0; i < order.length; i += 1) {
    const row = order[i];
    next[starts[(half[row] >>> shift) & (DIGITS - 1)]++] = row;
  }
  return true;
}
