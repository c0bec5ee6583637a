/** Which trials a table shows and in which order: from the address, on the columns of a model. */
import { ordered } from "../../ui/ordering.js";
import { STATES } from "./model.js";

/** {states: Set of codes, inside, above, below (accuracies in [0, 1]), numbers: [[from, to]]}; what is not named limits nothing. */
export function filtersOf({ state, inside, above, below, q }) {
  const codes = (state ?? "").split(",").map((name) => STATES.indexOf(name)).filter((code) => code >= 0);
  return { states: new Set(codes), inside: inside === "1", above: numberOf(above), below: numberOf(below), numbers: spansOf(q ?? "") };
}

function numberOf(text) {
  return text === undefined || text === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

/** "12, 40 100-200" -> [[12, 12], [40, 40], [100, 200]] */
function spansOf(text) {
  return Array.from(text.matchAll(/(\d+)(?:\s*[-–]\s*(\d+))?/g), ([, from, to]) => [Number(from), Number(to ?? from)]);
}

/** Rows that pass, as they came. */
export function passing(trials, { states, inside, above, below, numbers }, budgets) {
  const { count, status, accuracy, number, costs } = trials;
  const limits = inside ? Object.entries(budgets).filter(([name]) => costs[name]).map(([name, limit]) => [costs[name], limit]) : [];
  const found = new Uint32Array(count);
  let length = 0;
  for (let row = 0; row < count; row += 1) {
    if (states.size && !states.has(status[row])) continue;
    if (above !== null && !(accuracy[row] >= above)) continue;
    if (below !== null && !(accuracy[row] <= below)) continue;
    if (numbers.length && !numbers.some(([from, to]) => number[row] >= from && number[row] <= to)) continue;
    if (!limits.every(([values, limit]) => values[row] <= limit)) continue;
    found[length++] = row;
  }
  return found.subarray(0, length);
}

/** The newest come first, unless the address says otherwise. */
export function orderOf({ order, down }) {
  return order ? { by: order, down: down === "1" } : { by: "number", down: true };
}

/** The values that a column is ordered by; null: there is no such column. */
function valuesOf(trials, by) {
  const plain = { number: trials.number, state: trials.status, accuracy: trials.accuracy, reward: trials.reward, seconds: trials.seconds, finished: trials.finished_s };
  return plain[by] ?? trials.costs[by] ?? trials.attrs[by] ?? null;
}

export function inOrder(trials, rows, { by, down }) {
  const values = valuesOf(trials, by);
  return values === null ? rows : ordered(rows, values, down);
}
