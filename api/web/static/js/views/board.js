/** One board: what it is, what was measured on it, and how well that predicts. */
import * as api from "../core/api.js";
import { useGet } from "../core/query.js";
import { go, setQuery } from "../core/router.js";
import { can } from "../core/session.js";
import { html, useState } from "../core/ui.js";
import { Button, ask, toast } from "../ui/controls.js";
import { Failure, Loading, Page } from "../ui/states.js";
import { Agreement } from "./boards/agreement.js";
import { Coverage } from "./boards/coverage.js";
import { About } from "./boards/health.js";
import { Profile } from "./boards/profile.js";
import { Tables } from "./boards/tables.js";
import { JobList } from "./jobs/parts.js";

export default function BoardView({ parts, query }) {
  const name = parts[1];
  const at = `boards/${encodeURIComponent(name)}`;
  const board = useGet(at, {}, { on: { kinds: ["job.state"] } });
  const tables = useGet("tables", { board: name, limit: 100 }, { on: { kinds: ["job.state"] } });
  const newest = tables.data?.items[0]?.digest ?? null;
  const table = useGet(newest && `tables/${newest}`);
  const crumbs = [{ text: "Boards", href: "#/boards" }];
  if (!board.data) {
    return html`<${Page} title=${name} crumbs=${crumbs}>${board.error ? html`<${Failure} problem=${board.error} retry=${board.reload} />` : html`<${Loading} what="the board" />`}<//>`;
  }
  const actions = can("admin") && html`<${Button} kind="primary" icon="play" onClick=${() => setQuery({ profile: query.profile ?? "new" })}>Profile a space<//><${Forget} name=${name} />`;
  return html`<${Page} title=${name} wide crumbs=${crumbs} actions=${actions}>
    ${query.profile && html`<${Profile} key=${JSON.stringify([query.profile, query.resolution])} board=${name} query=${query} />`}
    ${!can("admin") && html`<p class="muted small">Profiling and forgetting a board are for administrators: measurements hold a machine for minutes.</p>`}
    <div class="boards-columns">
      <div class="stack">
        <${About} board=${board.data} table=${table.data} />
        <section class="card" aria-labelledby="boards-covers"><h2 id="boards-covers">Spaces whose latency it can tell</h2>
          ${newest ? html`<${Coverage} board=${name} digest=${newest} />` : html`<p class="muted">${tables.data ? "None: nothing was measured on it yet. Profile a space." : "…"}</p>`}</section>
      </div>
      <section class="card" aria-label="Prediction and measurement">
        <${Agreement} board=${name} table=${table.data} loading=${tables.loading || table.loading} /></section>
    </div>
    <section class="card" aria-labelledby="boards-tables"><h2 id="boards-tables">Latency tables</h2><${Tables} query=${tables} shown=${query.table} /></section>
    <section aria-labelledby="boards-jobs" class="stack"><h2 id="boards-jobs">Jobs of this board</h2><${JobList} board=${name} /></section>
  <//>`;
}

function Forget({ name }) {
  const [busy, setBusy] = useState(false);
  async function forget() {
    const text = "It is no longer here to be profiled. Its latency tables stay, and searches that use them go on.";
    if (!(await ask({ title: `Forget ${name}?`, text, action: "Forget the board", danger: true }))) return;
    setBusy(true);
    try {
      await api.del(`boards/${encodeURIComponent(name)}`);
      toast(`${name} is forgotten; its tables stay`);
      go("/boards");
    } catch (problem) {
      setBusy(false);
      toast(problem.detail ?? problem.message, "bad");
    }
  }
  return html`<${Button} kind="danger" icon="trash" busy=${busy} onClick=${forget}>Forget<//>`;
}
