/** The form's parts: what is searched, inside which budgets, how, and under which name. */
import { duration, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { html, useId } from "../../core/ui.js";
import { Icon } from "../../ui/controls.js";
import { TextField } from "../../ui/field.js";
import { Budgets } from "./budgets.js";
import { Choice, Typed } from "./controls.js";
import { findData, findEvaluator } from "./fields.js";
import { many, picture } from "./words.js";

export function What({ values, set, errors, catalogue, spaces }) {
  const part = { values, set, errors };
  const evaluator = values.evaluator || "training";
  const data = findData(catalogue, values);
  const chosen = spaces.find(({ space }) => space === values.space);
  const side = chosen?.inputs[0][1];
  const own = evaluator === "training" && data?.resolution;
  return html`<section class="card stack" aria-labelledby="new-what"><h2 id="new-what">What is searched</h2>
    <${Spaces} ...${part} spaces=${spaces} />
    <div class="new-pair">
      ${evaluator === "remote" || !dataOf(evaluator, catalogue) ? html`<${Typed} ...${part} name="classes" label="Classes" hint="That the networks tell apart" />`
        : html`<${Choice} ...${part} name="data" label=${evaluator === "training" ? "Pictures" : "File"} fallback=${evaluator === "training" ? "digits" : ""}
            options=${dataOf(evaluator, catalogue)} hint=${evaluator === "training" ? aboutData(data) : "Accuracies by encoding, below the data root"} />`}
      <div><${Typed} ...${part} name="resolution" label="Resolution" unit="px" placeholder=${side ?? ""}
        hint=${own >= 16 && own !== (Number(values.resolution) || side) ? html`The pictures are ${own} px. <button type="button" class="new-use" onClick=${() => set({ resolution: String(own) })}>Use ${own} px</button>`
          : "Several, e.g. 96, 128, make it a choice of the search"} /></div>
    </div>
  </section>`;
}

function dataOf(evaluator, catalogue) {
  if (evaluator === "training") return catalogue.datasets.map(({ name }) => name);
  const options = catalogue.evaluators.find(({ name }) => name === evaluator)?.options ?? {};
  if (!("path" in options)) return null;
  return [{ value: "", text: catalogue.csv_files.length ? "Choose a file" : "No CSV file below the data root" }, ...catalogue.csv_files];
}

function aboutData(data) {
  if (!data) return "As its name says; it is looked at when the search is checked";
  const told = [data.classes && plural(data.classes, "class", "classes"), data.train && plural(data.train, "picture"), data.resolution && `${data.resolution} px`,
    data.channels && (data.channels === 1 ? "grey" : "colour")];
  return told.filter(Boolean).join(", ");
}

function Spaces({ values, set, errors, spaces }) {
  const id = useId();
  return html`<fieldset class="new-spaces field" aria-describedby=${errors.space ? `${id}-error` : null}>
    <legend class="label">Space</legend>
    <div class="new-cards">${spaces.map(({ space, genes, size, inputs }) => html`<label key=${space} class="new-space">
      <input type="radio" name="space" value=${space} checked=${values.space === space} aria-invalid=${errors.space ? "true" : null} onChange=${() => set({ space })} />
      <span><b>${space}</b><span class="small muted"><span class="nowrap">${many(size)} networks</span>, <span class="nowrap">${plural(genes, "gene")}</span></span>
        <span class="small muted">${inputs.length > 1 ? plural(inputs.length, "resolution") : picture(inputs[0])}</span></span></label>`)}</div>
    ${errors.space && html`<span class="error" role="alert" id=${`${id}-error`}><${Icon} name="warn" />${errors.space}</span>`}
  </fieldset>`;
}

export function Where(part) {
  const { values, set, errors } = part;
  const boards = useGet("boards", { limit: 500 });
  const names = (boards.data?.items ?? []).map(({ name }) => name);
  const none = names.length ? "No board: FLOPs count, not latency" : "No board is registered: FLOPs count, not latency";
  const pick = (board) => set({ board: board || undefined, table: undefined, ...(board ? {} : { latency_ms: undefined, confidence: undefined }) });
  return html`<section class="card stack" aria-labelledby="new-where"><h2 id="new-where">Where it must run, and how fast</h2>
    <${Choice} values=${values} set=${set} errors=${errors} name="board" label="Board" options=${[{ value: "", text: none }, ...names]} onPick=${pick}
      hint=${!names.length && boards.data ? html`A board's latency table prices every network. <a href="#/boards">Boards</a>` : null} />
    <${Budgets} ...${part} />
  </section>`;
}

export function How({ values, set, errors, catalogue, body, checked }) {
  const part = { values, set, errors };
  const evaluator = findEvaluator(catalogue, values);
  const strategy = values.strategy || catalogue.defaults.strategy;
  const trains = "epochs" in (evaluator?.options ?? {});
  const about = (list, name) => list.find((one) => one.name === name)?.summary;
  const names = (list) => list.map(({ name }) => name);
  return html`<section class="card stack" aria-labelledby="new-how"><h2 id="new-how">How it is searched</h2>
    <div class="new-pair">
      <${Choice} ...${part} name="strategy" label="Strategy" fallback=${strategy} options=${names(catalogue.strategies)} hint=${about(catalogue.strategies, strategy)} />
      <${Choice} ...${part} name="evaluator" label="Evaluator" fallback="training" options=${names(catalogue.evaluators)} hint=${evaluator?.summary}
        onPick=${(picked) => set({ evaluator: picked, data: undefined, ...Object.fromEntries(Object.keys(values).filter((name) => name.startsWith("o.")).map((name) => [name, undefined])) })} />
    </div>
    <div class="new-three">
      <${Typed} ...${part} name="trials" label="Trials" placeholder=${catalogue.defaults.trials} hint="Networks to try" />
      ${trains && html`<${Typed} ...${part} name="epochs" label="Epochs" placeholder=${evaluator.steps} hint="Of each training" />`}
      <${Typed} ...${part} name="parallel" label="At once" placeholder=${catalogue.defaults.parallel} hint="Trials side by side" />
    </div>
    <details><summary>Advanced</summary><div class="stack new-advanced">
      <div class="new-pair">
        <${Typed} ...${part} name="rungs" label="Rungs" placeholder="none" hint="After these epochs only the best go on, e.g. 1, 3" />
        <${Typed} ...${part} name="eta" label="One in so many goes on" placeholder="3" hint="At each rung" />
        <${Typed} ...${part} name="channels" label="Channels" placeholder=${body.channels ?? 3} hint="1 is grey, 3 is colour" />
        ${evaluator?.name !== "remote" && html`<${Typed} ...${part} name="classes" label="Classes" placeholder="as the pictures have" />`}
        <${Typed} ...${part} name="seed" label="Seed" placeholder="0" hint="The same seed repeats the search" />
        <${TextField} label="Learn from" name="from" value=${values.from} onInput=${(from) => set({ from })} error=${errors.from}
          placeholder="nothing" hint="Name or number of an earlier search of the same space" />
        <${Choice} ...${part} name="reward" label="Latency budget" fallback="hard" options=${[{ value: "hard", text: "is a limit" }, { value: "soft", text: "is a target (MnasNet)" }]} />
        ${values.reward === "soft" && html`<${Typed} ...${part} name="reward_exponent" label="Exponent" placeholder=${catalogue.defaults.reward_exponent} />`}
        ${strategy === "guided" && html`
          <${Choice} ...${part} name="front" label="Search for" options=${[{ value: "", text: "the best network" }, ...catalogue.metrics.map(({ name, title }) => ({ value: name, text: `all of accuracy against ${title}` }))]} />
          <${Typed} ...${part} name="stop_when" label="Stop early" placeholder="never" hint="Once at most this much accuracy is expected to be missed, e.g. 0.002" />`}
        ${strategy === "annealing" && html`
          <${Typed} ...${part} name="s.t0" field="strategy_options.t0" label="First temperature" placeholder="calibrated" />
          <${Typed} ...${part} name="s.theta" field="strategy_options.theta" label="Cooling factor" hint="Of the temperature, per trial" />
          <${Typed} ...${part} name="s.chains" field="strategy_options.chains" label="Chains" placeholder="4" />`}
      </div>
      <${Options} ...${part} evaluator=${evaluator} />
      <${Tables} ...${part} />
    </div></details>
  </section>`;
}

const ELSEWHERE = ["data", "path", "epochs"];

/** What the evaluator may be told besides; what its plug-in declares. */
function Options({ evaluator, ...part }) {
  const options = Object.entries(evaluator?.options ?? {}).filter(([name]) => !ELSEWHERE.includes(name));
  if (!options.length) return null;
  return html`<fieldset class="new-options"><legend class="label">Options of ${evaluator.name}</legend><div class="new-three">
    ${options.map(([name, kind]) => {
      const common = { ...part, key: name, name: `o.${name}`, field: `evaluator_options.${name}`, label: name.replaceAll("_", " ") };
      if (kind === "flag") return html`<${Choice} ...${common} options=${[{ value: "", text: "default" }, { value: "true", text: "yes" }, { value: "false", text: "no" }]} />`;
      return html`<${Typed} ...${common} placeholder=${kind === "number" || kind === "text" ? "default" : "below the data root"} />`;
    })}</div></fieldset>`;
}

function Tables({ values, set, errors }) {
  const tables = useGet(values.board ? "tables" : null, { board: values.board, limit: 100 });
  if (!tables.data?.items.length) return null;
  const options = tables.data.items.map(({ digest, spaces, created_at: at }) => ({ value: digest.slice(0, 12), text: `${digest.slice(0, 12)}: ${spaces}, ${at.slice(0, 10)}` }));
  return html`<${Choice} values=${values} set=${(patch) => set({ table: patch.table || undefined })} errors=${errors} name="table" label="Latency table"
    options=${[{ value: "", text: "the board's newest that covers the space" }, ...options]} />`;
}

/** How long it takes, where the server can tell. */
export function Time({ checked, body }) {
  const estimate = checked.data?.estimate;
  const trials = body.trials ?? 100;
  let told = "The time is told once the form is complete.";
  if (checked.loading && !estimate) told = "Estimating the time …";
  else if (estimate?.seconds) {
    const { seconds, low_s: low, high_s: high, trial_seconds: each } = estimate;
    told = html`<b>About ${duration(seconds)}</b>${low !== null && ` (${duration(low)} to ${duration(high)})`} for ${plural(trials, "trial")} of ${duration(each)} each.`;
  } else if (estimate) told = html`<b>Time unknown.</b>`;
  return html`<p class=${`new-time${checked.loading ? " new-dim" : ""}`} role="status" aria-busy=${String(checked.loading)} data-testid="estimate"><${Icon} name="clock" /><span>${told}
    ${estimate && html` <span class="muted">${sentence(estimate.basis)}</span>`}</span></p>`;
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

export function Naming({ values, set, errors, body, checked }) {
  const free = body.name && checked.data?.name_free && !checked.loading && !errors.name;
  return html`<div class="card"><${TextField} label="Name" name="name" value=${values.name} onInput=${(name) => set({ name })} error=${errors.name}
    placeholder="search-NUMBER" hint=${free ? html`<span class="new-free"><${Icon} name="check" /> The name is free</span>` : "Letters, digits, '.', '_' and '-'; may be left out"} /></div>`;
}

