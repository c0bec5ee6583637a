/** A trial's files: the network as it is, and, once an export has trained it, everything to run it. */
import { save, url } from "../core/api.js";
import { bytes, percent, plural } from "../core/format.js";
import { postOnce } from "../core/once.js";
import { useGet } from "../core/query.js";
import { href } from "../core/router.js";
import { owns, session } from "../core/session.js";
import { useStore } from "../core/store.js";
import { html, useState } from "../core/ui.js";
import { Badge, Button, Progress, toast } from "../ui/controls.js";
import { Snippet } from "../ui/snippet.js";
import { Failure } from "../ui/states.js";

const JOBS = ["job.state", "job.progress", "job.deleted"];
const AT_WORK = ["queued", "running", "paused"];
const WHAT = {
  "network.onnx": "ONNX, trained", "network.ncnn.param": "ncnn, structure", "network.ncnn.bin": "ncnn, weights", "weights.pt": "torch, weights", "graph.json": "torch, structure",
  "README.md": "model card", "run.py": "runs it on a picture", "deploy.json": "how a picture is prepared", "network.svg": "drawing", "training.svg": "learning curve",
};
const FIRST = ["network.onnx", "network.ncnn.param", "network.ncnn.bin", "weights.pt", "README.md"];
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const server = () => new URL(".", document.baseURI).href.replace(/\/$/, "");

export function Downloads({ search, trial }) {
  const jobs = useGet("jobs", { search_id: search.id, kind: "export", limit: 100 }, { on: { search: search.id, kinds: JOBS } });
  const own = (jobs.data?.items ?? []).filter((job) => (job.result ? job.result.trial === trial.number : job.spec.trial === trial.number));
  const work = own.find((job) => AT_WORK.includes(job.state));
  const done = own.find((job) => job.state === "complete");
  const failed = !work && own[0]?.state === "failed" ? own[0] : null;
  return html`<section class="card stack" aria-labelledby="network-files" data-testid="downloads"><h2 id="network-files">Files</h2>
    <div class="network-files"><${File} title="ONNX, untrained" text="The network with random weights: to look at it in Netron, or to time it elsewhere."
      path=${`searches/${search.id}/trials/${trial.number}/onnx`} filename=${`search-${search.id}-trial-${trial.number}.onnx`}
      python=${`Path("network.onnx").write_bytes(client.onnx(${search.id}, ${trial.number}))`} /></div>
    ${jobs.error && html`<${Failure} problem=${jobs.error} retry=${jobs.reload} />`}
    ${done && html`<${Exported} job=${done} />`}
    ${failed && html`<p class="notice bad" role="alert">The last export failed: ${failed.error} (<a href=${href(`/jobs/${failed.id}`)}>job ${failed.id}</a>)</p>`}
    ${work ? html`<${Working} job=${work} />` : jobs.data && html`<${Export} ...${{ search, trial, again: Boolean(done), reload: jobs.reload }} />`}
  </section>`;
}

function Exported({ job }) {
  const files = useGet(`jobs/${job.id}/artifacts`, { limit: 200 });
  const [all, setAll] = useState(false);
  if (files.error) return html`<${Failure} problem=${files.error} retry=${files.reload} />`;
  if (!files.data) return null;
  const { items } = files.data;
  const zip = items.find((one) => one.name === job.result.archive);
  const first = [zip, ...FIRST.map((name) => items.find((one) => one.name === name))].filter(Boolean);
  const rest = items.filter((one) => !first.includes(one));
  const row = (one) => html`<${File} key=${one.id} title=${one === zip ? "Everything, as a zip" : (WHAT[one.name] ?? one.name)} text=${`${one.name}, ${bytes(one.size)}`} path=${`artifacts/${one.id}/content`}
    filename=${one.name.split("/").at(-1)} python=${`file = next(a for a in client.artifacts(job=${job.id}) if a.name == ${JSON.stringify(one.name)})\nclient.download(file, Path(${JSON.stringify(one.name.split("/").at(-1))}))`} />`;
  return html`<div class="row"><h3>Trained and exported</h3><${Badge} state="complete" text=${`test accuracy ${percent(job.result.test_accuracy)}`} /><span class="muted small">${plural(job.result.epochs, "epoch")} · <a href=${href(`/jobs/${job.id}`)}>job ${job.id}</a></span></div>
    <div class="network-files">${(all ? [...first, ...rest] : first).map(row)}</div>
    ${rest.length > 0 && html`<div><${Button} kind="quiet" onClick=${() => setAll(!all)}>${all ? "Fewer files" : `${rest.length} more files`}<//></div>`}`;
}

function File({ title, text, path, filename, python }) {
  const [busy, setBusy] = useState(false);
  const take = async () => {
    setBusy(true);
    try {
      await save(path, filename);
    } catch (problem) {
      toast(`${filename}: ${problem.detail ?? problem.message}`, "bad");
    } finally {
      setBusy(false);
    }
  };
  const lines = [
    { name: "curl", text: `curl -H "Authorization: Bearer $LIGHTNAS_TOKEN" -o ${quoted(filename)} ${quoted(url(path))}` },
    { name: "Python", text: `from pathlib import Path\nfrom api.client import Client\n\nclient = Client(${JSON.stringify(server())})  # the token is LIGHTNAS_TOKEN\n${python}` },
  ];
  return html`<div class="network-file"><div class="grow"><b>${title}</b><span class="muted small">${text}</span></div>
    <${Button} icon="download" busy=${busy} onClick=${take} aria-label=${`Download ${title}`}>Download<//>
    <details><summary>curl, Python</summary><${Snippet} lines=${lines} label=${`${title} without the dashboard`} /></details></div>`;
}

function Working({ job }) {
  return html`<div class="stack"><div class="row"><${Badge} state=${job.state} /><span>Train and export · <a href=${href(`/jobs/${job.id}`)}>job ${job.id}</a></span></div>
    <${Progress} value=${job.progress?.done ?? 0} max=${job.progress?.of || 1} label="Train and export"><span class="muted">${job.progress?.text ?? (job.state === "queued" ? "waiting for a worker" : "starting")}</span><//></div>`;
}

function Export({ search, trial, again, reload }) {
  useStore(session);
  const [busy, setBusy] = useState(false);
  if (trial.state !== "complete") return html`<p class="muted small">Only a complete trial can be trained to the end and exported.</p>`;
  if (!owns(search.owner)) return html`<p class="muted small">The search's owner or an administrator can have it trained and exported.</p>`;
  const start = async () => {
    setBusy(true);
    try {
      await postOnce("jobs/export", { search: search.id, trial: trial.number });
      reload();
    } catch (problem) {
      toast(problem.detail, "bad");
    } finally {
      setBusy(false);
    }
  };
  return html`<div class="stack"><div class="row"><${Button} kind=${again ? "plain" : "primary"} icon="play" busy=${busy} onClick=${start}>${again ? "Train and export again" : "Train and export"}<//>
    <span class="muted small">Trains the network to the end, if no training is there to be used, and writes ONNX, ncnn, torch, programs that run it and a model card.</span></div>
    <details class="network-how"><summary>curl, Python</summary><${Snippet} lines=${exportLines(search, trial)} label="Train and export without the dashboard" /></details></div>`;
}

function exportLines(search, trial) {
  return [
    { name: "curl", text: `curl -H "Authorization: Bearer $LIGHTNAS_TOKEN" -H 'Content-Type: application/json' -d '{"search": ${search.id}, "trial": ${trial.number}}' ${quoted(url("jobs/export"))}` },
    { name: "Python", text: `from api.client import Client\nfrom api.schemas.jobs import ExportRequest\n\njob = Client(${JSON.stringify(server())}).export(ExportRequest(search=${search.id}, trial=${trial.number}))` },
  ];
}
