/** All trials of a search as a table: filtered, ordered, chosen, compared; all of that is in the address. */
import { get } from "../../core/api.js";
import { saveCsv } from "../../core/csv.js";
import { METRICS, clock, count, dateTime, digits, duration, metric, percent } from "../../core/format.js";
import { go, href, setQuery } from "../../core/router.js";
import { useStore } from "../../core/store.js";
import { html, useEffect, useMemo, useState } from "../../core/ui.js";
import { Badge, Button, Icon, toast } from "../../ui/controls.js";
import { Empty, Failure, Loading } from "../../ui/states.js";
import { VirtualTable } from "../../ui/virtual_table.js";
import { useVersion } from "./hooks.js";
import { STATES } from "./model.js";
import { filtersOf, inOrder, orderOf, passing } from "./trials_filter.js";
import { costsOf } from "./words.js";

const NO_FILTER = { state: null, inside: null, above: null, below: null, q: null };
const OTHERS_PX = 412; // what stands around the table in a window

export function TrialsTable({ trials, selection, query, search, height }) {
  const version = useVersion(trials);
  const chosen = useStore(selection);
  const tall = useTall(height);
  const budgets = search.spec.budgets ?? {};
  const filtered = Object.keys(NO_FILTER).some((name) => query[name]);
  const filterKey = JSON.stringify(Object.keys(NO_FILTER).map((name) => query[name] ?? ""));
  const order = orderOf(query);
  const passed = useMemo(() => passing(trials, filtersOf(query), budgets), [version, trials, filterKey]);
  const rows = useMemo(() => inOrder(trials, passed, order), [passed, order.by, order.down]);
  const marked = (query.mark ?? "").split(",").filter((text) => /^\d{1,9}$/.test(text)).map(Number);
  const best = trials.best().at(-1);
  const shown = [...costsOf(trials), ...["temperature", "expected_regret"].filter((name) => trials.attrs[name])].join();
  const columns = useMemo(() => columnsOf({ trials, search, budgets, marked, best }), [trials, shown, query.mark, best, search.id]);

  if (trials.state === "loading" && trials.count === 0) return html`<${Loading} what="the trials" />`;
  if (trials.state === "failed" && trials.count === 0) return html`<${Failure} problem=${trials.problem} retry=${() => trials.load()} />`;
  if (trials.count === 0) {
    const waits = search.state === "queued" ? "The search waits for a worker." : search.state === "running" ? "The first one is being proposed." : "The search ended before its first one.";
    return html`<${Empty} title="No trials yet">${waits}<//>`;
  }
  const open = (row) => go(`/searches/${search.id}/trials/${trials.number[row]}`);
  const running = search.state === "running";
  return html`<section class="table-trials" aria-label="Trials">
    <${Filters} trials=${trials} query=${query} limited=${Object.keys(budgets).length > 0} />
    <div class="table-above">
      <p data-testid="trials-count" role="status" aria-live=${running ? "off" : "polite"}>${rows.length === trials.count ? "" : html`<strong>${count(rows.length)}</strong> of `
        }<strong>${count(trials.count)}</strong> trials${trials.state === "loading" ? ", more are loading …" : ""}</p>
      ${filtered && html`<${Button} kind="quiet" icon="cross" onClick=${() => setQuery(NO_FILTER)}>No filter<//>`}
      <span class="grow"></span>
      <${Save} search=${search} trials=${trials} rows=${rows} />
      <${Compare} search=${search} marked=${marked} />
    </div>
    ${rows.length === 0 ? html`<${Empty} title="No trial is like that" action=${html`<${Button} onClick=${() => setQuery(NO_FILTER)}>Show all trials<//>`}>
        None of the ${count(trials.count)} trials passes the filter.<//>`
      : html`<${VirtualTable} label=${`Trials of ${search.name}: Enter opens a network, space selects it`} ...${{ columns, rows, order, version }}
        height=${tall} fresh=${`${filterKey} ${order.by} ${order.down}`} onOrder=${({ by, down }) => setQuery({ order: by, down: down ? 1 : null })}
        selected=${chosen.selected === null ? -1 : trials.indexOf(chosen.selected)} onSelect=${(row) => selection.select(trials.number[row])}
        hovered=${chosen.hover === null ? -1 : trials.indexOf(chosen.hover)} onHover=${(row) => selection.hover(row < 0 ? null : trials.number[row])}
        onOpen=${open} />`}
  </section>`;
}

function columnsOf({ trials, search, budgets, marked, best }) {
  const { number, accuracy, reward, seconds, finished_s: finished } = trials;
  const old = trials.began !== null && Date.now() - trials.began > 86_400_000;
  const mark = (row) => setQuery({ mark: toggled(marked, trials.number[row]).join(",") });
  const numeric = (id, title, render, more) => ({ id, title, render, align: "right", sort: true, down: true, width: 100, ...more });
  return [
    { id: "number", title: "Trial", width: 92, sort: true, down: true, render: (row) => html`<a href=${href(`/searches/${search.id}/trials/${trials.number[row]}`)}
      tabindex="-1">${trials.number[row]}</a>${row === best && html`<span class="table-best" title="The best so far">★<span class="sr-only">best so far</span></span>`}` },
    { id: "mark", title: "Mark", width: 60, hint: "Mark two trials to compare them", act: mark, render: (row) => {
      const on = marked.includes(trials.number[row]);
      return html`<button type="button" class="table-mark" role="checkbox" tabindex="-1" aria-checked=${String(on)} aria-label=${`Compare trial ${trials.number[row]}`}
        onClick=${() => mark(row)}>${on && html`<${Icon} name="check" />`}</button>`;
    } },
    { id: "state", title: "State", width: 112, sort: true, render: (row) => html`<${Badge} state=${STATES[trials.status[row]]} />` },
    numeric("accuracy", "Accuracy", (row) => percent(trials.accuracy[row]), { hint: "On the validation pictures" }),
    ...costsOf(trials).map((name) => numeric(name, METRICS[name].title, (row) => cost(trials, name, row, budgets[name]), { down: false, width: 108 })),
    numeric("reward", "Reward", (row) => metric("reward", trials.reward[row]), { hint: "What the strategy maximises" }),
    numeric("seconds", "Took", (row) => duration(trials.seconds[row] || NaN), { hint: "Wall time of the training" }),
    numeric("finished", "Ended", (row) => moment(trials, row, old), { width: old ? 168 : 96 }),
    ...(trials.attrs.temperature ? [numeric("temperature", "Temperature", (row) => digits(trials.attrs.temperature[row]), { width: 116, hint: "Of the annealing when it was proposed" })] : []),
    ...(trials.attrs.expected_regret ? [numeric("expected_regret", "Regret", (row) => digits(trials.attrs.expected_regret[row]),
      { hint: "By how much the best network of all was expected to beat the recommended one" })] : []),
  ];
}

function cost(trials, name, row, limit) {
  const value = trials.costs[name]?.[row];
  if (!(value > limit)) return metric(name, value);
  return html`<span class="table-over" title=${`Above the budget of ${metric(name, limit)}`}>${metric(name, value)} ↑<span class="sr-only">above the budget</span></span>`;
}

function moment(trials, row, old) {
  const at = trials.finished_s[row];
  if (Number.isNaN(at)) return "–";
  const when = new Date(trials.began + 1000 * at);
  return old ? dateTime(when) : clock(when);
}

/** Two at most: the third takes the place of the first. */
function toggled(marked, number) {
  return marked.includes(number) ? marked.filter((one) => one !== number) : [...marked, number].slice(-2);
}

function Compare({ search, marked }) {
  if (marked.length === 0) return null;
  const [one, other] = marked;
  const clear = html`<${Button} kind="quiet" icon="cross" label="Mark none" onClick=${() => setQuery({ mark: null })} />`;
  if (other === undefined) return html`<span class="muted small">Trial ${one} is marked; mark another to compare</span>${clear}`;
  return html`<${Button} kind="primary" href=${href(`/searches/${search.id}/trials/${one}`, { against: other })} data-testid="compare">Compare ${one} with ${other}<//>${clear}`;
}

function Save({ search, trials, rows }) {
  const [busy, setBusy] = useState(false);
  const take = async () => {
    setBusy(true);
    try {
      saveCsv(`${search.name}-trials.csv`, await csvColumns(search.id, trials, rows));
    } catch (problem) {
      toast(`The CSV could not be made: ${problem.detail ?? problem.message}`, "bad");
    }
    setBusy(false);
  };
  return html`<${Button} kind="quiet" icon="download" label="The trials shown as CSV" busy=${busy} onClick=${take}>CSV<//>`;
}

async function csvColumns(searchId, trials, rows) {
  const encodings = new Map();
  let after = null;
  do {
    const page = await get(`searches/${searchId}/columns`, { encodings: true, after });
    page.number.forEach((number, i) => encodings.set(number, page.encoding[i]));
    after = page.next;
  } while (after !== null);
  const take = (values) => Array.from(rows, (row) => values[row]);
  const each = (group) => Object.fromEntries(Object.entries(group).map(([name, values]) => [name, take(values)]));
  return {
    number: take(trials.number), state: Array.from(rows, (row) => STATES[trials.status[row]]), accuracy: take(trials.accuracy), reward: take(trials.reward),
    ...each(trials.costs), seconds: take(trials.seconds),
    finished_at: Array.from(rows, (row) => (Number.isNaN(trials.finished_s[row]) ? "" : new Date(trials.began + 1000 * trials.finished_s[row]).toISOString())),
    ...each(trials.attrs), encoding: Array.from(rows, (row) => encodings.get(trials.number[row])),
  };
}

function Filters({ trials, query, limited }) {
  const { states } = filtersOf(query);
  const counts = trials.counts();
  const toggle = (code) => {
    const wanted = new Set(states);
    if (!wanted.delete(code)) wanted.add(code);
    setQuery({ state: STATES.filter((_, i) => wanted.has(i)).join(",") });
  };
  return html`<div class="table-filters" role="group" aria-label="Show only">
    <div class="row">${STATES.map((name, code) => (counts[code] > 0 || states.has(code)) && html`<button type="button" class="chip" key=${name}
      aria-pressed=${String(states.has(code))} onClick=${() => toggle(code)}>${name} <span class="muted">${count(counts[code])}</span></button>`)}
      ${limited && html`<button type="button" class="chip" aria-pressed=${String(query.inside === "1")}
        onClick=${() => setQuery({ inside: query.inside === "1" ? null : 1 })}>inside the budget</button>`}</div>
    <div class="row table-ranges">
      <span class="row table-range"><${Share} label="accuracy" name="Accuracy at least, %" value=${query.above} onInput=${(above) => setQuery({ above })} />
        <${Share} label="to" name="Accuracy at most, %" value=${query.below} onInput=${(below) => setQuery({ below })} /> %</span>
      <label class="table-range"><span class="muted">trial</span><input class="input" type="search" placeholder="12, 100-200" aria-label="Trial numbers, such as 12 or 100-200" value=${query.q ?? ""}
        onInput=${(event) => setQuery({ q: event.target.value })} /></label>
    </div>
  </div>`;
}

/** Percent to the reader, a share in the address. */
function Share({ label, name, value, onInput }) {
  // What is typed stays as it is typed while it is what the address says: "90." is on its way to 90.05, "9e" is no number yet.
  const [typed, setTyped] = useState(null);
  const shown = typed !== null && typed.share === value ? typed.text : percentsOf(value);
  const take = ({ target }) => {
    if (target.validity.badInput) return setTyped({ text: "", share: value });
    const share = target.value === "" ? undefined : String(Number((target.valueAsNumber / 100).toFixed(6)));
    setTyped({ text: target.value, share });
    onInput(share ?? null);
  };
  return html`<label class="table-range"><span class="muted">${label}</span><input class="input" type="number" min="0" max="100" step="any" inputmode="decimal" aria-label=${name}
    value=${shown} onInput=${take} onBlur=${() => setTyped(null)} /></label>`;
}

/** A text always: beside a number Preact would write the box anew each time. */
function percentsOf(share) {
  return share === undefined || Number.isNaN(Number(share)) ? "" : String(Number((100 * Number(share)).toFixed(4)));
}

/** What the window leaves. */
function useTall(height) {
  const [tall, setTall] = useState(innerHeight);
  useEffect(() => {
    const look = () => setTall(innerHeight);
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  }, []);
  return height ?? Math.max(340, Math.min(1200, tall - OTHERS_PX));
}
