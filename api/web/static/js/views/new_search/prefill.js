/** Forms that are filled in: the demo, and the settings of an earlier search. */
import * as api from "../../core/api.js";
import { isExact } from "../../core/format.js";
import { BUDGETS, asTyped } from "./fields.js";

/** What `nas demo` searches, but smaller: it takes a minute or two. */
const DEMO = { space: "mobilenetv2-small", data: "digits", trials: "16", parallel: "2", epochs: "2" };
/** Pictures as they are, and what `nas demo` profiles a machine for. */
const DEMO_PICTURES = [{ resolution: [16], channels: 1 }, { resolution: [32], channels: 3 }];

/** The demo, with a latency budget where a board can tell latencies, else one on FLOPs. */
export async function fillDemo() {
  const boards = await api.all("boards", {}, 20);
  for (const { name: board } of boards) {
    for (const pictures of DEMO_PICTURES) {
      try {
        return demo(await leaves({ ...pictures, board }), pictures, board);
      } catch (problem) {
        if (problem.status !== 422) throw problem;
      }
    }
  }
  return demo(await leaves(DEMO_PICTURES[0]), DEMO_PICTURES[0], null);
}

function leaves(settings) {
  return api.post(`spaces/${DEMO.space}/feasibility`, { ...settings, classes: 10 });
}

function demo({ metrics }, { resolution, channels }, board) {
  const budget = board ? "latency_ms" : "flops";
  const now = new Date().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
  return {
    ...DEMO, resolution: resolution.join(", "), channels: String(channels), ...(board && { board }),
    [budget]: asTyped(budget, metrics[budget].quantiles["0.25"]), name: `demo-${now}`,
  };
}

/** Options that were asked; `init_digest` beside `init` is what the server found there. */
export function askedOptions(given) {
  const found = (name) => name.endsWith("_digest") && name.slice(0, -"_digest".length) in given;
  return Object.fromEntries(Object.entries(given ?? {}).filter(([name, value]) => value !== null && !found(name)));
}

/**
 * The settings of an earlier search, but not its name and its table: the board's newest counts. {name, values, inexact: whether
 * its seed was left out, because it is not known exactly}
 */
export async function fillFrom(number) {
  const search = await api.get(`searches/${encodeURIComponent(number)}`);
  const { spec } = search;
  const { data, epochs, path, ...options } = askedOptions(spec.evaluator_options);
  const values = { space: spec.space.name, data: data ?? path, epochs, board: search.board };
  for (const name of ["resolution", "classes", "channels"]) values[name] = spec.space[name];
  for (const name of ["strategy", "evaluator", "trials", "parallel", "seed", "reward", "confidence", "rungs", "front", "stop_when"]) {
    values[name] = spec[name];
  }
  const inexact = !isExact(spec.seed);
  if (inexact) delete values.seed;
  if (spec.rungs?.length) values.eta = spec.eta;
  if (spec.reward === "soft") values.reward_exponent = spec.reward_exponent;
  if (spec.earlier?.search) values.from = spec.earlier.search;
  for (const metric of BUDGETS) values[metric] = spec.budgets[metric];
  for (const [name, value] of Object.entries(options)) values[`o.${name}`] = value;
  for (const [name, value] of Object.entries(spec.strategy_options ?? {})) values[`s.${name}`] = value;
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value.length !== 0);
  return { name: search.name, inexact, values: Object.fromEntries(given.map(([name, value]) => [name, asText(value)])) };
}

function asText(value) {
  return Array.isArray(value) ? value.join(", ") : String(value);
}
