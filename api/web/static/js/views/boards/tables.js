/** Latency tables of a board: how good each is, and how it came about. */
import { bytes, count, dateTime, digits, duration, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Failure, Loaded, Loading } from "../../ui/states.js";
import { intervalPct } from "./interval.js";

const TOLD = 20; // tables whose errors are asked for

export function Tables({ query, shown }) {
  return html`<${Loaded} query=${query} what="the tables" empty=${html`<p class="muted">No table yet: profile a space.</p>`}>${({ items }) => html`
    <div class="scroll"><table class="table">
      <caption class="sr-only">Latency tables, newest first</caption>
      <thead><tr><th scope="col">Table</th><th scope="col">Spaces</th><th scope="col" class="num">Kernels</th><th scope="col" class="num">Error</th>
        <th scope="col" class="num">90 % interval</th><th scope="col">Made</th></tr></thead>
      <tbody>${items.map((table, i) => html`<${Row} key=${table.digest} table=${table} told=${i < TOLD} open=${shown && table.digest.startsWith(shown)} />`)}</tbody>
    </table></div>
    ${shown && html`<${Detail} digest=${shown} />`}`}<//>`;
}

function Row({ table, told, open }) {
  const { data } = useGet(told ? `tables/${table.digest}` : null);
  const short = table.digest.slice(0, 12);
  return html`<tr>
    <th scope="row"><button type="button" class="boards-digest mono" aria-expanded=${String(Boolean(open))} onClick=${() => setQuery({ table: open ? null : short })}>${short}</button></th>
    <td class="boards-spaces">${table.spaces}</td><td class="num">${count(table.ops)}</td>
    <td class="num nowrap">${data ? `${digits(data.calibration.error_pct)} %` : "…"}</td>
    <td class="num nowrap">${data ? intervalText(data.calibration) : "…"}</td>
    <td class="nowrap">${dateTime(table.created_at)}</td>
  </tr>`;
}

function intervalText(calibration) {
  const found = intervalPct(calibration);
  return found ? found.map((x) => `${x > 0 ? "+" : ""}${digits(x)} %`.replace("-", "−")).join(" to ") : "not told";
}

const TERMS = {
  conv: "Convolutions, times", depthwise: "Depthwise convolutions, times", other: "Other kernels, times", kernel_ms: "Per kernel, ms",
  weights_ms_per_mb: "Per MB of weights, ms", traffic_ms_per_mb: "Per MB of activations, ms",
};

function Detail({ digest }) {
  const { data, error, reload } = useGet(`tables/${encodeURIComponent(digest)}`);
  if (error) return html`<${Failure} problem=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what="the table" />`;
  const { identity, calibration, provenance, offset_ms: offset } = data;
  const parts = [
    ["What its times hold for", [
      ["Machine", [identity.model, identity.machine].filter(Boolean).join(", ")], ["Engine", `${identity.engine} ${identity.engine_version}, ${identity.dtype}`],
      ["Threads", identity.threads], ["Cores", identity.cores.join(", ") || "as the system chose"], ["Governor", identity.governor || "not told"],
    ]],
    ["How well it predicts", [
      ["Mean error", `${digits(calibration.error_pct)} % on ${plural(calibration.networks, "network")} run whole, each predicted without itself`],
      ["Measurement noise", calibration.split_half_pct === null ? "not known" : `${digits(calibration.split_half_pct)} %: no prediction beats it`],
      ["90 % interval", intervalText(calibration)], ["Shift between days", `${digits(100 * calibration.drift_sigma)} %`],
      ["Scale", digits(calibration.scale, 4)], ["Of every network", `${digits(offset)} ms beyond its kernels`],
      ...Object.entries(calibration.terms).map(([name, value]) => [TERMS[name] ?? name, digits(value)]),
    ]],
    ["How it came about", [
      ["Made", `${dateTime(provenance.date)} by ${provenance.command}`], ["Measured", `${plural(provenance.networks, "network")}, ${plural(provenance.passes, "pass", "passes")}, ${duration(provenance.seconds)} on the board`],
      ["Whole", provenance.complete ? "yes" : "no: cut short, the rest is estimated"], ["Samples' SHA-256", html`<span class="mono">${provenance.samples_sha256.slice(0, 16)}…</span>`],
      ...Object.entries(provenance.facts).filter(([, value]) => value !== "" && value !== null).map(([name, value]) => [name.replaceAll("_", " "), name === "memory_bytes" ? bytes(value) : [value].flat().join(", ")]),
    ]],
  ];
  return html`<div class="boards-detail" data-testid="table-detail"><h3 class="mono">${data.digest}</h3>
    <div class="boards-parts">${parts.map(([title, rows]) => html`<section key=${title}><h3>${title}</h3>
      <dl class="kv small">${rows.map(([label, text]) => html`<dt key=${label}>${label}</dt><dd key=${`${label}:`}>${text}</dd>`)}</dl></section>`)}</div></div>`;
}
