/** What follows from the trials: fronts, best so far, what annealing accepted. All work on the columns of a model. */
const COMPLETE = 1; // as in model.js, which imports this

/** Put a row into a staircase of rising cost and rising accuracy, if nothing there beats it. Of equals the first stays. */
export function insertFront(front, cost, accuracy, row) {
  const [c, a] = [cost[row], accuracy[row]];
  if (!(c === c && a === a)) return;
  let [low, high] = [0, front.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (cost[front[middle]] < c) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && accuracy[front[low - 1]] >= a) return;
  if (low < front.length && cost[front[low]] === c && accuracy[front[low]] >= a) return;
  let beaten = low;
  while (beaten < front.length && accuracy[front[beaten]] <= a) beaten += 1;
  front.splice(low, beaten - low, row);
}

/** Keep rows in the order of their ends; an event comes nearly always last. */
export function insertTime(rows, finished, row) {
  const at = finished[row];
  if (rows.length === 0 || finished[rows.at(-1)] <= at) return void rows.push(row);
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (finished[rows[middle]] <= at) low = middle + 1;
    else high = middle;
  }
  rows.splice(low, 0, row);
}

/** The rows at which the best reward rose, in the order of the trials' ends. */
export function bestByTime({ by_time: rows, reward }) {
  return rising(rows, reward);
}

/** The same in the order of the trials' numbers. */
export function bestByNumber({ count, number, status, reward }) {
  const rows = [];
  let sorted = true;
  for (let row = 0; row < count; row += 1) {
    if (status[row] !== COMPLETE) continue;
    if (rows.length && number[rows.at(-1)] > number[row]) sorted = false;
    rows.push(row);
  }
  if (!sorted) rows.sort((one, other) => number[one] - number[other]);
  return rising(rows, reward);
}

function rising(rows, reward) {
  const found = [];
  let best = -Infinity;
  for (const row of rows) {
    if (reward[row] > best) {
      best = reward[row];
      found.push(row);
    }
  }
  return found;
}

/** A trial was accepted if a later one of its chain was made from it; not, if later ones of the chain were not. */
export function accepted({ count, attrs: { chain, base }, rows, status }) {
  const told = new Uint8Array(count);
  if (!chain || !base) return told;
  const followed = new Set();
  for (let row = count - 1; row >= 0; row -= 1) {
    if (status[row] === COMPLETE && told[row] === 0 && followed.has(chain[row])) told[row] = 2;
    if (base[row] === base[row]) {
      followed.add(chain[row]);
      const made = rows.get(base[row]);
      if (made !== undefined && chain[made] === chain[row]) told[made] = 1;
    }
  }
  return told;
}
