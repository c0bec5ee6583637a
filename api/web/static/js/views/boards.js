/** The machines to profile: how they are, and what is known of them. */
import { ago, plural } from "../core/format.js";
import { useGet } from "../core/query.js";
import { href } from "../core/router.js";
import { can } from "../core/session.js";
import { html } from "../core/ui.js";
import { Progress } from "../ui/controls.js";
import { Empty, Loaded, Page } from "../ui/states.js";
import { HealthBadge, engineOf, machineOf } from "./boards/health.js";
import { Register } from "./boards/register.js";

const MOST = 500;

export default function Boards() {
  const boards = useGet("boards", { limit: MOST });
  const tables = useGet("tables", { limit: MOST }, { on: { kinds: ["job.state"] } });
  const jobs = useGet("jobs", { kind: "profile", state: "running", limit: 100 }, { on: { kinds: ["job.state", "job.progress"] } });
  const of = (query, name) => (query.data?.items ?? []).filter(({ board }) => board === name);
  const none = html`<${Empty} title="No board yet">${can("admin")
    ? "Register one below: a single-board computer in your network, or this machine. Then profile a space on it, and searches can hold a latency."
    : "An administrator registers boards. Until then searches hold FLOPs, parameters or sizes."}<//>`;
  return html`<${Page} title="Boards" wide>
    <${Loaded} query=${boards} what="the boards" empty=${none}>${({ items }) => html`<ul class="boards-cards" aria-label="Boards">
      ${items.map((board) => html`<${Card} key=${board.name} board=${board} tables=${tables.data && of(tables, board.name)} profile=${of(jobs, board.name)[0]} />`)}</ul>`}<//>
    <${Register} onDone=${boards.reload} />
  <//>`;
}

function Card({ board, tables, profile }) {
  const { data } = useGet(`boards/${encodeURIComponent(board.name)}`);
  const newest = tables?.[0];
  return html`<li class="card boards-card" data-testid=${`board-${board.name}`}>
    <div class="row spread"><h2><a href=${href(`/boards/${encodeURIComponent(board.name)}`)}>${board.name}</a></h2>${data && html`<${HealthBadge} facts=${data.facts} />`}</div>
    <p class="muted small">${[data && machineOf(data.facts), board.address === "local" ? "this server itself" : board.address].filter(Boolean).join(" · ")}</p>
    <dl class="kv small">
      <dt>Engine</dt><dd>${engineOf(board)}</dd>
      <dt>Latency tables</dt><dd>${!tables ? "…" : newest ? html`${plural(tables.length, "table")}, the newest ${ago(newest.created_at)}: ${newest.spaces}` : "none yet: profile a space"}</dd>
    </dl>
    ${profile && html`<${Progress} value=${profile.progress?.done ?? 0} max=${profile.progress?.of ?? 1} label=${`Profile of ${board.name}`}>
      <a href=${href(`/jobs/${profile.id}`)}>Profiling ${profile.spec.space}</a><//>`}
  </li>`;
}

