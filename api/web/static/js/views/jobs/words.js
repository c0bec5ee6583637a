/** What jobs, what is asked of them and what they tell is called. */
import { count, duration, isExact, percent, plural } from "../../core/format.js";

export const KINDS = ["search", "profile", "verify", "train", "export"];
export const STATES = ["queued", "running", "paused", "complete", "failed", "cancelled"];
export const OVER = ["complete", "failed", "cancelled"];

const TITLES = { search: "Search", profile: "Profile", verify: "Verification", train: "Final training", export: "Export" };

/** "Profile 5" */
export function jobTitle({ id, kind }) {
  return `${TITLES[kind] ?? kind} ${id}`;
}

/** What a kind does, in a line. */
export const PURPOSE = {
  search: "Proposes, trains and compares the networks of a search.",
  profile: "Measures the ops of a space on a board, so that latencies can be predicted.",
  verify: "Runs networks on a board: what was predicted beside what is measured.",
  train: "Trains the best networks to the end, beside baselines of the same budget, and chooses the winner.",
  export: "Writes the winner as torch, ONNX and ncnn files, with programs that run it.",
};

const ASKED = {
  space: "Space", resolution: "Picture sides", classes: "Classes", channels: "Channels", passes: "Passes", networks: "Fresh networks run whole",
  time_limit_s: "Time limit", seed: "Seed", fresh: "Times every op again", top: "Best networks", random: "Random networks", accuracy: "Compares answers",
  pictures: "Test pictures", export: "Of export", seeds: "Trainings each", per_family: "Baselines of a family", baselines: "Baseline families",
  options: "Training", parallel: "At once", measure: "Measures first", teacher_search: "Teacher", trial: "Trial", epochs: "Epochs", threads: "CPU threads",
  license: "License", init: "Starts from", teacher: "Teacher",
};

/** A key of a spec or a result as people read it. */
export function keyTitle(key) {
  return ASKED[key] ?? `${key[0].toUpperCase()}${key.slice(1).replaceAll("_", " ")}`;
}

/** A value of a spec or a result as people read it; null: it says nothing. */
export function valueText(key, value) {
  if (value === null || value === undefined || value === false || value === "") return null;
  if (value === true) return "yes";
  if (Array.isArray(value)) return value.length ? value.map((one) => valueText(key, one) ?? "–").join(", ") : null;
  if (typeof value === "object") {
    const told = Object.entries(value).map(([name, one]) => [name, valueText(name, one)]).filter(([, text]) => text !== null);
    return told.length ? told.map(([name, text]) => `${name.replaceAll("_", " ")} ${text}`).join(", ") : null;
  }
  if (typeof value === "number" && key.endsWith("_s")) return duration(value);
  if (typeof value === "number" && key === "seed" && !isExact(value)) return `about ${value}`;
  return String(value);
}

/** A share in [0, 1]; null where nobody knows it. */
export function progressShare(progress) {
  return progress && progress.of > 0 ? Math.min(1, progress.done / progress.of) : null;
}

/** "45 % · 98 networks, 48 passes, about 28 s left" */
export function progressText(progress) {
  if (!progress) return "";
  const share = progressShare(progress);
  return [share === null ? null : percent(share, 0), progress.text].filter(Boolean).join(" · ");
}

/** How long it has run, or ran. */
export function took({ started_at: from, finished_at: to }) {
  return from ? duration(Math.max(0, ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000)) : null;
}

const pct = (value) => (value === null ? "–" : `${value.toFixed(1)}\u00a0%`);
const RESULTS = {
  search: (found) => ["complete", "pruned", "failed"].filter((state) => found[state] > 0).map((state) => `${count(found[state])} ${state}`).join(", "),
  profile: (found) => `${plural(found.ops, "op")}, predictions off by ${pct(found.error_pct)}`,
  verify: (found) => ("accuracy_board" in found ? `${percent(found.accuracy_board)} there, ${percent(found.accuracy_here)} here`
    : `${plural(found.networks.length, "network")}, predictions off by ${pct(found.mean_error_pct)}`),
  train: (found) => `${found.winner} is the best of ${plural(found.networks.length, "network")}`,
  export: (found) => `trial ${found.trial}, test accuracy ${percent(found.test_accuracy)}`,
};

/** What came of a job in a few words; nothing where nothing did. */
export function resultText({ kind, result }) {
  return result && RESULTS[kind] ? RESULTS[kind](result) : "";
}
