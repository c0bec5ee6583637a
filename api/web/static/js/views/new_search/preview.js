/** What the form leaves of its space: how many networks, how they are spread, one of them, and whether the board knows them. */
import * as api from "../../core/api.js";
import { METRICS, metric as shown, plural } from "../../core/format.js";
import { href, setQuery, useRoute } from "../../core/router.js";
import { can } from "../../core/session.js";
import { html } from "../../core/ui.js";
import { Button, Facts, Icon } from "../../ui/controls.js";
import { Figure } from "../../ui/figure.js";
import { Empty, Loading } from "../../ui/states.js";
import { NetworkDrawing } from "../../network/drawing.js";
import { settingsOf, useAsked } from "./asking.js";
import { BUDGETS, asTyped } from "./fields.js";
import { Spread } from "./spread.js";
import { many, share } from "./words.js";

export function Preview({ body, set, looked, onDemo, errors }) {
  const { data, error, loading } = looked;
  if (!body.space || errors.space) {
    return html`<section class="card new-preview" aria-label="What the form leaves of the space">
      <${Empty} title="Nothing to show yet" action=${html`<${Button} onClick=${onDemo}>Fill in the demo<//>`}>
        Choose a space: here you will see how its networks are spread, how many keep your budgets, and one of them.<//></section>`;
  }
  return html`<section class="card new-preview" aria-label="What the form leaves of the space" aria-busy=${String(loading)} data-testid="preview">
    <div class="row spread"><h2>What your budgets leave</h2>${loading && html`<span class="busy" role="status"><span class="sr-only">Computing …</span></span>`}</div>
    ${error && html`<p class="notice bad" role="alert">${error.detail ?? error.message}</p>`}
    ${!data ? !error && html`<${Loading} what="the space" />`
      : html`<div class=${`stack${loading || error ? " new-dim" : ""}`}><${Left} found=${data.found} smallest=${data.smallest} body=${body} set=${set} />
        <${Covered} found=${data.found} body=${body} /><${Example} found=${data.found} smallest=${data.smallest} body=${body} /></div>`}
  </section>`;
}

/** The metric shown: the one the address names, else that of the first budget, else latency, else FLOPs. */
function useShown(found, body) {
  const { query } = useRoute();
  const known = BUDGETS.filter((metric) => found.metrics[metric]);
  const wanted = [query.show, ...BUDGETS.filter((metric) => body.budgets?.[metric] !== undefined), "latency_ms", "flops"];
  return [wanted.find((metric) => known.includes(metric)), known];
}

function Left({ found, smallest, body, set }) {
  const [metric, known] = useShown(found, body);
  const { min, max, histogram } = found.metrics[metric];
  const limit = body.budgets?.[metric] ?? null;
  const none = Object.keys(smallest).length > 0;
  const limited = Object.keys(found.budgets).length > 0;
  const least = found.budgets[metric]?.smallest_possible ?? min;
  const sure = metric === "latency_ms" && found.confidence && limited ? `; with ${100 * found.confidence} % confidence` : "";
  const title = `${METRICS[metric].title} of the space's networks${metric === "latency_ms" ? ` on ${found.board}` : ""}`;
  const inside = none ? "none" : limited ? share(found.share.about) : "all";
  const summary = `${title}: from ${shown(metric, min)} to ${shown(metric, max)}, half of them at most ${shown(metric, found.metrics[metric].quantiles["0.5"])}. `
    + (limit === null ? "There is no budget on it. " : `The budget is ${shown(metric, limit)}. `) + `Inside all budgets: ${inside} of ${many(found.networks)} networks.`;
  const csv = () => ({
    filename: `${found.space}-${metric}.csv`,
    columns: { [`from_${metric}`]: histogram.edges.slice(0, -1), [`to_${metric}`]: histogram.edges.slice(1), networks: histogram.networks, inside: histogram.inside },
  });
  return html`
    <${Facts} items=${[
      ["Networks inside", inside, none ? "of what is asked" : `${many(found.inside.about)} of ${many(found.networks)}`],
      ["Smallest possible", shown(metric, least), `${METRICS[metric].short}${sure}`],
      ["Largest", shown(metric, max), METRICS[metric].short],
    ]} />
    <div class="row" role="group" aria-label="What is shown">${known.map((name) => html`<button type="button" class="chip" key=${name} aria-pressed=${String(name === metric)}
      onClick=${() => setQuery({ show: name })}>${METRICS[name].title}</button>`)}</div>
    <${Figure} title=${title} level=${3} summary=${summary} csv=${csv}>
      <${Spread} metric=${metric} histogram=${histogram} inside=${none ? histogram.networks.map(() => 0) : histogram.inside} limit=${limit} label=${summary}
        onPick=${(value) => set({ [metric]: asTyped(metric, value) })} />
      <p class="legend"><span><i class="new-key kept"></i>inside the budgets</span><span><i class="new-key"></i>the rest</span>
        <span>${limit === null ? "Click where the budget shall be" : "Click, or move the line with the arrow keys, to change the budget"}</span></p>
    <//>`;
}

/** Whether the board's table knows every kernel of the space. */
function Covered({ found, body }) {
  const asked = { space: body.space, ...settingsOf(body) };
  const key = body.board || body.table ? JSON.stringify([body.board, body.table, found.table, asked]) : null;
  const covered = useAsked(key, async (signal) => {
    const digest = body.table ?? found.table ?? (await api.get("tables", { board: body.board, limit: 1 }, { signal })).items[0]?.digest;
    return digest ? api.get(`tables/${digest}/coverage`, asked, { signal }) : null;
  }, 50);
  if (key === null || (covered.loading && !covered.data)) return null;
  if (covered.error) return html`<p class="muted small">${covered.error.detail}</p>`;
  const to = href(`/boards/${encodeURIComponent(body.board)}`, { profile: body.space, resolution: body.resolution?.join(","), channels: body.channels, classes: body.classes });
  const mend = body.board && (can("admin") ? html` <a href=${to}>Profile it on ${body.board}</a>.` : " Ask an administrator to profile it.");
  if (covered.data === null) return html`<p class="notice" role="status">${body.board} has no latency table yet.${mend}</p>`;
  const { kernels, timed, estimated, missing } = covered.data;
  if (missing > 0) {
    return html`<p class="notice" role="status" data-testid="coverage"><${Icon} name="warn" /> The latency table of ${covered.data.board} lacks ${missing} of ${plural(kernels, "kernel")} of the space
      with these pictures, so it tells no latency.${mend}</p>`;
  }
  return html`<p class="small new-covered" data-testid="coverage"><${Icon} name="check" /> The latency table of ${covered.data.board} has all ${plural(kernels, "kernel")} of the space: ${timed} timed${
    estimated ? `, ${estimated} estimated` : ""}.</p>`;
}

function Example({ found, smallest, body }) {
  const { encoding, ...costs } = found.example;
  const asked = { encoding, ...settingsOf(body), ...(found.table && { table: found.table }) };
  const network = useAsked(JSON.stringify([found.space, asked]), (signal) => api.post(`spaces/${encodeURIComponent(found.space)}/architecture`, asked, { signal }), 50);
  const limited = Object.keys(found.budgets).length > 0 && Object.keys(smallest).length === 0;
  return html`<div class="new-example stack" aria-label="An example">
    <h3>${limited ? "A network at the budget" : "A network of the space"}</h3>
    ${network.data ? html`<div class=${network.loading ? "new-dim" : ""}><${NetworkDrawing} network=${network.data} compact=${true} /></div>`
      : network.error ? html`<p class="muted small">${network.error.detail}</p>` : html`<${Loading} what="a network" />`}
    <dl class="new-costs">${BUDGETS.filter((metric) => costs[metric] !== null && costs[metric] !== undefined).map((metric) => html`<div key=${metric}><dt>${METRICS[metric].title}</dt>
      <dd>${shown(metric, costs[metric])}</dd></div>`)}</dl>
  </div>`;
}
