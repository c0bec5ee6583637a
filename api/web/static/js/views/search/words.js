/** How this page names and writes what a trial has. */
import { METRICS, compact, digits, metric, percent } from "../../core/format.js";
import { FAILED, PRUNED, RUNNING, STATES } from "./model.js";

/** The costs there are, in the order in which people ask for them. */
export function costsOf(trials) {
  return Object.keys(METRICS).filter((name) => trials.costs[name]);
}

function titleOf(name) {
  const { title, unit } = METRICS[name] ?? { title: name, unit: "" };
  return unit ? `${title}, ${unit}` : title;
}

export function costAxis(trials, name) {
  return { label: titleOf(name), of: (row) => trials.costs[name][row], ticks: name === "flops" || name === "params" ? compact : (v) => digits(v, 4), least: 0 };
}

export function accuracyAxis(trials, what) {
  return {
    label: `Accuracy${what ? ` on ${what}` : ""}, %`, of: (row) => trials.accuracy[row], least: 0, most: 1,
    ticks: (v) => Number((100 * v).toFixed(2)).toString(),
  };
}

/** [[name, text]]: a trial in a few words. */
export function describeTrial(trials, row) {
  const status = trials.status[row];
  const lines = [];
  if (status === FAILED || status === RUNNING) lines.push(["State", STATES[status]]);
  else lines.push([status === PRUNED ? "Accuracy when stopped" : "Accuracy", percent(trials.accuracy[row])]);
  for (const name of costsOf(trials)) lines.push([METRICS[name].title, metric(name, trials.costs[name][row])]);
  return lines;
}

/** Columns of a CSV of some rows: what every chart has, and `more`. */
export function csvOf(trials, rows, more = {}) {
  const take = (values) => rows.map((row) => values[row]);
  return {
    number: take(trials.number), state: rows.map((row) => STATES[trials.status[row]]), accuracy: take(trials.accuracy),
    ...Object.fromEntries(costsOf(trials).map((name) => [name, take(trials.costs[name])])), ...more,
  };
}

export function allRows(trials) {
  return Array.from({ length: trials.count }, (_, row) => row);
}
