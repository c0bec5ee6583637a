/** Events as sentences. */
import { METRICS, digits, metric, named, percent } from "../../core/format.js";
import { href } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { stepWord } from "./curve.js";

/** Kinds a reader chooses together. */
export const GROUPS = [
  { id: "ended", text: "ends", kinds: ["trial.ended"] },
  { id: "started", text: "starts", kinds: ["trial.started"] },
  { id: "steps", text: "steps", kinds: ["trial.step"] },
  { id: "search", text: "search and jobs", kinds: ["search.created", "search.state", "search.deleted", "job.state", "job.progress", "job.deleted"] },
];

const SEARCH = {
  queued: "waits for a worker", running: "runs", paused: "is paused", stopped: "stopped", cancelled: "was cancelled", complete: "is complete", failed: "failed",
};
const JOB = { queued: "waits for a worker", running: "runs", paused: "is paused", complete: "is done", failed: "failed", cancelled: "was cancelled" };

/** [{text, href?}, …] */
export function sentenceOf(event, search) {
  const { kind, data, trial, job_id: job } = event;
  const trialLink = { text: `Trial ${trial}`, href: href(`/searches/${search.id}/trials/${trial}`) };
  const jobLink = { text: `Job ${job}`, href: href(`/jobs/${job}`) };
  const because = data.error ? `: ${data.error}` : "";
  switch (kind) {
    case "trial.started": return [trialLink, { text: ` began${costs(data.costs)}` }];
    case "trial.step": return [trialLink, { text: `, ${stepWord(search)} ${data.step}${data.steps ? ` of ${data.steps}` : ""}${metrics(data.metrics)}` }];
    case "trial.ended": return [trialLink, { text: end(data) }];
    case "search.created": return [{ text: "The search was submitted" }];
    case "search.state": return [{ text: `The search ${SEARCH[data.state] ?? `is ${data.state}`}${because}` }];
    case "job.state": return [jobLink, { text: `${data.kind ? ` (${data.kind})` : ""} ${JOB[data.state] ?? data.state}${data.worker ? ` on worker ${data.worker}` : ""}${because}` }];
    case "job.progress": return [jobLink, { text: `: ${data.text ?? `${data.done} of ${data.of}`}` }];
    case "job.deleted": return [{ text: `Job ${data.job_id ?? job} was deleted` }];
    default: return [{ text: kind }];
  }
}

function end({ state, accuracy, seconds }) {
  const after = seconds > 0 ? ` after ${metric("seconds", seconds)}` : "";
  if (state === "complete") return ` ended: ${percent(accuracy)}${after}`;
  if (state === "pruned") return ` was stopped at a rung: ${percent(accuracy)}${after}`;
  return ` ${state}${after}`;
}

function costs(told) {
  const names = Object.keys(told ?? {}).filter((name) => METRICS[name]).slice(0, 2);
  return names.length ? `: ${names.map((name) => named(name, told[name])).join(", ")}` : "";
}

function metrics(told) {
  const words = Object.entries(told ?? {}).sort(([name]) => (name === "val_accuracy" ? -1 : 0)).slice(0, 4).map(([name, value]) => (name === "val_accuracy" ? percent(value) : `${name} ${typeof value === "number" ? digits(value) : value}`));
  return words.length ? `: ${words.join(", ")}` : "";
}

export function Sentence({ event, search }) {
  return sentenceOf(event, search).map(({ text, href: to }) => (to ? html`<a href=${to}>${text}</a>` : text));
}
