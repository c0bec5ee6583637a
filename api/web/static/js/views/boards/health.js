/** What a board is, and whether its last check found something that spoils measurements. */
import { bytes, digits, plural } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { Icon } from "../../ui/controls.js";

/** Facts are what `nas boards check` found: any of them may be missing. */
const list = (value) => (Array.isArray(value) ? value : []).filter((one) => one !== null);

export function HealthBadge({ facts }) {
  const [problems, warnings] = [list(facts?.problems).length, list(facts?.warnings).length];
  const [look, icon, text] = !facts ? ["queued", "clock", "never checked"] : problems ? ["failed", "cross", problems === 1 ? "1 problem" : `${problems} problems`]
    : warnings ? ["paused", "warn", warnings === 1 ? "1 warning" : `${warnings} warnings`] : ["complete", "check", "in order"];
  return html`<span class=${`badge ${look}`}><${Icon} name=${icon} />${text}</span>`;
}

/** "Raspberry Pi 4 Model B", or what its cores are. */
export function machineOf(facts) {
  return facts?.model || list(facts?.clusters).map(({ label }) => label).join(", ") || null;
}

export function engineOf({ engine, dtype, threads, cores }) {
  return `${engine}, ${dtype}, ${plural(threads, "thread")}${cores.length ? ` on ${cores.length === 1 ? "core" : "cores"} ${cores.join(", ")}` : ""}`;
}

export function About({ board, table }) {
  const { facts } = board;
  const [problems, warnings] = [list(facts?.problems), list(facts?.warnings)];
  return html`<section class="card stack" aria-labelledby="boards-about">
    <div class="row spread"><h2 id="boards-about">The machine</h2><${HealthBadge} facts=${facts} /></div>
    ${problems.map((line) => html`<p key=${line} class="notice bad boards-line"><${Icon} name="cross" /><span>${line}</span></p>`)}
    ${warnings.map((line) => html`<p key=${line} class="notice boards-line"><${Icon} name="warn" /><span>${line}</span></p>`)}
    <dl class="kv">${[...rows(board, table)].filter(([, text]) => text).map(([label, text]) => html`<dt key=${label}>${label}</dt><dd key=${`${label}:`}>${text}</dd>`)}</dl>
    <p class="small muted">${facts ? "As its last check found it. Check again on the server:" : "It was never checked. On the server:"} <code>nas boards check ${board.name}</code></p>
  </section>`;
}

function* rows({ address, cores: pinned, ...board }, table) {
  const facts = board.facts ?? {};
  const measured = table?.provenance.facts ?? {};
  const cores = list(facts.cores);
  yield ["Address", address === "local" ? "local: this server itself" : address];
  yield ["Engine", engineOf({ ...board, cores: pinned })];
  yield ["Model", facts.model || table?.identity.model];
  yield ["Cores", list(facts.clusters).map(({ label, cores: of }) => `${list(of).length} × ${label}`).join(", ") || (measured.cpus && `${measured.cpus}`)];
  yield ["Governor", [...new Set(cores.map(({ governor }) => governor).filter(Boolean))].join(", ") || table?.identity.governor];
  yield ["Frequency", frequency(cores)];
  yield ["Temperature", list(facts.zones).filter(({ is_cpu: cpu }) => cpu).map(({ celsius, limit_celsius: limit }) => `${digits(celsius)} °C${limit ? `, slows down at ${digits(limit)} °C` : ""}`).join("; ")];
  yield ["Memory", facts.memory_bytes ? `${bytes(facts.memory_bytes)}, ${bytes(facts.memory_free_bytes)} free` : measured.memory_bytes && bytes(measured.memory_bytes)];
  yield ["Load", facts.load !== undefined && `${digits(facts.load)} processes want to run`];
  yield ["CPU features", list(facts.features ?? measured.features).join(", ")];
  yield ["System", facts.os || measured.system];
  yield ["Held by", facts.holder];
}

function frequency(cores) {
  const known = cores.filter(({ now_mhz: now, max_mhz: max }) => now && max);
  if (!known.length) return null;
  const range = (values) => (Math.min(...values) === Math.max(...values) ? `${values[0]}` : `${Math.min(...values)} to ${Math.max(...values)}`);
  return `${range(known.map(({ now_mhz: now }) => now))} MHz now, ${range(known.map(({ max_mhz: max }) => max))} MHz at most`;
}
