/** The form's fields: texts as they were typed, which the address holds, and what they mean as the body of a request. */
import { METRICS } from "../../core/format.js";

export const BUDGETS = ["latency_ms", "flops", "params", "model_mb", "peak_memory_mb"];

const number = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?([kMGT]?)$/i;
const BY = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** "300M", "1.5e6", "0.26" -> number; NaN where it is none. */
function parseNumber(text) {
  const found = number.exec(text.replace(/[\s_]/g, ""));
  return found ? Number(found[1] + (found[2] ?? "")) * BY[found[3].toLowerCase()] : NaN;
}

const int = (text) => (/^\d+$/.test(text) ? Number(text) : NaN);
const KINDS = {
  text: { read: (text) => text },
  int: { read: int, wants: "a whole number", exact: true },
  number: { read: parseNumber, wants: "a number" },
  signed: { read: Number, wants: "a number" },
  ints: { read: (text) => text.split(/[\s,;]+/).filter(Boolean).map(int), wants: "whole numbers, e.g. 96, 128", exact: true },
};

/** Field of the request -> kind of its text. */
const FIELDS = {
  space: "text", resolution: "ints", classes: "int", channels: "int", board: "text", table: "text", strategy: "text",
  evaluator: "text", data: "text", epochs: "int", reward: "text", reward_exponent: "signed", confidence: "number", rungs: "ints",
  eta: "number", front: "text", stop_when: "number", from: "text", trials: "int", parallel: "int", seed: "int", name: "text",
};
/** In the address `from` names the search whose settings are filled in. */
const IN_ADDRESS = { from: "learn" };
const STRATEGY_OPTIONS = { t0: "number", theta: "number", chains: "int", start: "text" };

/** The address's query -> what is typed: field, metric, `o.NAME` of the evaluator, `s.NAME` of the strategy -> text. */
export function readAddress(query) {
  const values = {};
  for (const name of [...Object.keys(FIELDS), ...BUDGETS]) {
    const told = query[IN_ADDRESS[name] ?? name];
    if (told !== undefined) values[name] = told;
  }
  for (const [name, told] of Object.entries(query)) if (/^[os]\.[a-z]\w*$/.test(name)) values[name] = told;
  return values;
}

/** The inverse. */
export function writeAddress(values) {
  return Object.fromEntries(Object.entries(values).map(([name, text]) => [IN_ADDRESS[name] ?? name, text]));
}

export const findData = (catalogue, values) => catalogue?.datasets.find((one) => one.name === (values.data || "digits"));
export const findEvaluator = (catalogue, values) => catalogue?.evaluators.find((one) => one.name === (values.evaluator || "training"));

/**
 * What is typed -> {body, errors}: the body of POST searches, only what is not as it is anyhow; errors by field, those that
 * need no server. A field with an error is not in the body.
 */
export function toBody(values, catalogue) {
  const body = {};
  const errors = {};
  const take = (name, text, kind, into, key = name, field = name) => {
    const trimmed = text.trim();
    if (trimmed === "") return;
    const { read, wants, exact } = KINDS[kind];
    const found = read(trimmed);
    if ([found].flat().some(Number.isNaN)) errors[field] = `Write ${wants}`;
    else if (exact && ![found].flat().every(Number.isSafeInteger)) errors[field] = `At most ${Number.MAX_SAFE_INTEGER}: a browser keeps no larger number exactly`;
    else into[key] = found;
  };
  const defaults = catalogue?.defaults ?? {};
  for (const [name, kind] of Object.entries(FIELDS)) {
    const text = values[name] ?? "";
    if (text !== String(defaults[name] ?? "")) take(name, text, kind, body);
  }
  if (/^\d+$/.test(body.from ?? "")) body.from = Number(body.from);
  takeData(values, catalogue, body);
  takeBudgets(values, body, errors, take);
  for (const [letter, field] of [["o", "evaluator_options"], ["s", "strategy_options"]]) {
    const kinds = letter === "s" ? (values.strategy === "annealing" ? STRATEGY_OPTIONS : {}) : findEvaluator(catalogue, values)?.options ?? {};
    const options = {};
    for (const [name, text] of Object.entries(values)) {
      const option = name.startsWith(`${letter}.`) ? name.slice(2) : null;
      if (!option || !kinds[option]) continue;
      if (kinds[option] === "flag") {
        if (text) options[option] = text === "true";
      } else take(name, text, kinds[option] === "number" ? "number" : kinds[option] === "int" ? "int" : "text", options, option, `${field}.${option}`);
    }
    if (Object.keys(options).length) body[field] = options;
  }
  if (!body.space) errors.space = "Choose what is searched";
  if (body.name && !/^(?!\d+$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(body.name)) {
    errors.name = "Letters, digits, '.', '_' and '-', beginning with a letter or digit, and not only digits";
    delete body.name;
  }
  if (body.eta && !body.rungs) delete body.eta;
  return { body, errors };
}

/** The data's channels go with it, because a space's own are colours; its classes do without being told. */
function takeData(values, catalogue, body) {
  const evaluator = values.evaluator || "training";
  if (evaluator === "training") {
    const data = findData(catalogue, values);
    if (data) body.data ??= data.name;
    if (data?.channels && body.channels === undefined && !values.channels) body.channels = data.channels;
  } else if (!("path" in (findEvaluator(catalogue, values)?.options ?? {}))) {
    delete body.data;
  }
  if (body.epochs !== undefined && !("epochs" in (findEvaluator(catalogue, values)?.options ?? { epochs: 1 }))) delete body.epochs;
}

function takeBudgets(values, body, errors, take) {
  const budgets = {};
  for (const metric of BUDGETS) if (values[metric] !== undefined) take(metric, values[metric], "number", budgets, metric, `budgets.${metric}`);
  if (budgets.latency_ms !== undefined && !body.board && !body.table) {
    errors["budgets.latency_ms"] = "Only a board tells latencies: choose one above, or remove this budget";
    delete budgets.latency_ms;
  }
  for (const [metric, limit] of Object.entries(budgets)) {
    if (limit > 0) continue;
    errors[`budgets.${metric}`] = "More than nothing";
    delete budgets[metric];
  }
  if (Object.keys(budgets).length) body.budgets = budgets;
  if (budgets.latency_ms === undefined) delete body.confidence;
}

/** A number as a budget is typed: three digits, FLOPs and parameters with k, M or G. */
export function asTyped(metric, value) {
  const of = Number(value.toPrecision(3));
  if (METRICS[metric].unit === "ms" || METRICS[metric].unit === "MB") return String(of);
  const [suffix, by] = [["G", 1e9], ["M", 1e6], ["k", 1e3]].find(([, least]) => of >= least) ?? ["", 1];
  return `${Number((of / by).toPrecision(3))}${suffix}`;
}

/** At least `value`, in as few digits as tell it within a thousandth. */
export function roundUp(value) {
  const step = 10 ** (Math.floor(Math.log10(value)) - 3);
  const up = Number((Math.ceil(value / step) * step).toPrecision(4));
  return up >= value ? up : Number((up + step).toPrecision(4));
}
