/** A search in a list: as a row of a table, or as a card. */
import { ago, count, dateTime, digits, duration, metric, METRICS, named, percent, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { href } from "../../core/router.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { Badge, Icon, Progress } from "../../ui/controls.js";
import { Sparkline } from "../../charts/sparkline.js";
import { SearchActions, ending } from "./actions.js";
import { ended } from "./live.js";

export function SearchRow({ search, see, moment, onChange, onDelete }) {
  const [row, seen] = useSeen(() => see(search.id));
  return html`<tr ref=${row} data-testid=${`search-${search.id}`}>
    <th scope="row"><${Name} search=${search} /><${InShort} search=${search} /></th>
    <td class="searches-state"><${State} search=${search} /></td>
    <td class="searches-trials"><${Trials} search=${search} /></td>
    <td class="searches-best"><${Best} search=${search} /></td>
    <td class="searches-rise"><${Rise} search=${search} seen=${seen} /></td>
    <td class="nowrap"><${Left} search=${search} /></td>
    <td class="searches-owner"><${Owner} search=${search} /></td>
    <td><${SearchActions} search=${search} moment=${moment} onChange=${onChange} onDelete=${onDelete} /></td>
  </tr>`;
}

export function SearchCard({ search, see, moment, onChange, onDelete }) {
  const [card, seen] = useSeen(() => see(search.id));
  return html`<li class="card searches-card" ref=${card} data-testid=${`search-${search.id}`}>
    <div class="row spread"><h2><${Name} search=${search} /></h2><${State} search=${search} /></div>
    <${InShort} search=${search} />
    <${Trials} search=${search} />
    <div class="row spread searches-found"><div class="searches-best"><${Best} search=${search} /></div><${Rise} search=${search} seen=${seen} /></div>
    <div class="row spread">
      <span class="small muted"><${Left} search=${search} words /> <${Owner} search=${search} /></span>
      <${SearchActions} search=${search} moment=${moment} onChange=${onChange} onDelete=${onDelete} />
    </div>
  </li>`;
}

/** [ref, whether the element has been on the screen]; tells so once. */
function useSeen(onSeen) {
  const place = useRef(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      setSeen(true);
      onSeen();
    }, { rootMargin: "200px" });
    watch.observe(place.current);
    return () => watch.disconnect();
  }, []);
  return [place, seen];
}

function Name({ search }) {
  return html`<a class="searches-name" href=${href(`/searches/${search.id}`)}>${search.name}</a>`;
}

function InShort({ search }) {
  const parts = [search.space, search.board && `on ${search.board}`, search.strategy, search.evaluator !== "training" && search.evaluator];
  return html`<div class="small muted searches-short">${parts.filter(Boolean).map((part, i) => html`${i > 0 && " · "}<span>${part}</span>`)}</div>`;
}

function State({ search }) {
  const soon = ending(search);
  return html`<${Badge} state=${search.state} />
    ${soon && html`<div class="small muted">${soon}</div>`}
    ${search.error && html`<div class="small searches-error" title=${search.error}>${search.error}</div>`}`;
}

function Trials({ search }) {
  const { running, pruned, failed } = search.trials;
  const done = ended(search);
  const others = [
    search.state === "running" && running > 0 && html`<span key="running">${count(running)} running</span>`,
    pruned > 0 && html`<span key="pruned"><${Icon} name="scissors" /> ${count(pruned)} pruned</span>`,
    failed > 0 && html`<span key="failed" class="searches-failed"><${Icon} name="cross" /> ${count(failed)} failed</span>`,
  ].filter(Boolean);
  return html`<${Progress} value=${done} max=${search.wanted} label=${`${count(done)} of ${plural(search.wanted, "trial")} of ${search.name}`}>
    <span class="searches-counts"><span>${count(done)} of ${count(search.wanted)}</span>${others}</span>
  <//>`;
}

/** The metric its best is told with: a budget's if there is one. */
function costMetric({ best, budgets }) {
  const limited = Object.keys(budgets).filter((name) => name in best.costs);
  return ["latency_ms", ...limited, "flops"].find((name) => (limited.length ? limited.includes(name) : name in best.costs)) ?? null;
}

function Best({ search }) {
  const { best, budgets } = search;
  if (!best) return html`<span class="muted">${search.state === "queued" ? "waits for a worker" : ["running", "paused"].includes(search.state) ? "no result yet" : "no result"}</span>`;
  const name = costMetric(search);
  const limit = budgets[name];
  const title = name && `${METRICS[name].title} of trial ${best.number}${limit === undefined ? "" : ", and its budget"}`;
  return html`<a href=${href(`/searches/${search.id}/trials/${best.number}`)} aria-label=${`Trial ${best.number}, accuracy ${percent(best.accuracy)}`}>${percent(best.accuracy)}</a>
    ${name && html`<div class="small muted nowrap" title=${title}>${limit === undefined ? named(name, best.costs[name])
      : html`${metric(name, best.costs[name])} of ${named(name, limit)}`}</div>`}`;
}

/** Best so far against trials. */
function Rise({ search, seen }) {
  const found = useGet(seen && search.best ? `searches/${search.id}/improvements` : null);
  const best = search.best?.number;
  const shown = useRef(best);
  useEffect(() => {
    if (shown.current !== best && shown.current !== undefined) found.reload();
    shown.current = best;
  }, [best]);
  const items = found.data?.items ?? [];
  if (!items.length) return html`<span class="searches-norise" aria-hidden="true"></span>`;
  const last = items[items.length - 1];
  const values = [...items.map(({ number, accuracy }) => [number, accuracy]), [Math.max(last.number, ended(search) - 1), last.accuracy]];
  const label = items.length === 1 ? `Trial ${last.number} is the best so far, ${percent(last.accuracy)}`
    : `Best so far rose from ${percent(items[0].accuracy)} to ${percent(last.accuracy)} in ${plural(items.length - 1, "step")}`;
  return html`<${Sparkline} values=${values} label=${label} width=${110} height=${28} />`;
}

function Left({ search, words = false }) {
  if (search.state !== "running" || !search.pace || ending(search)) return words ? null : html`<span class="muted" aria-label="not told">–</span>`;
  const { eta_s: left, trials_per_hour: rate } = search.pace;
  const speed = `${digits(rate)} trials an hour`;
  if (words) return html`<span title=${speed}>${duration(left)} left ·</span>`;
  return html`${duration(left)}<div class="small muted">${speed}</div>`;
}

function Owner({ search }) {
  const when = search.finished_at ? `ended ${dateTime(search.finished_at)}` : `asked ${dateTime(search.created_at)}`;
  return html`<span>${search.owner ?? "command line"}</span> <span class="small muted nowrap" title=${`Asked ${dateTime(search.created_at)}; ${when}`}>${ago(search.created_at)}</span>`;
}
