/** Files that jobs made, to take home. */
import * as api from "../../core/api.js";
import { bytes } from "../../core/format.js";
import { href } from "../../core/router.js";
import { useGet } from "../../core/query.js";
import { html, useState } from "../../core/ui.js";
import { Button, toast } from "../../ui/controls.js";
import { Failure, Loading } from "../../ui/states.js";

const LIMIT = 100;

/** The files of a job, or of all jobs of a search (their numbers); the archive of an export first. */
export function Artifacts({ job, search }) {
  const path = job === undefined ? `searches/${search}/artifacts` : `jobs/${job}/artifacts`;
  const on = job === undefined ? { search, kinds: ["job.state", "job.deleted"] } : { job, kinds: ["job.state"] };
  const { data, error, reload } = useGet(path, { limit: LIMIT }, { on });
  const [later, setLater] = useState([]);
  const [cursor, setCursor] = useState(undefined);
  if (data === null) return error ? html`<${Failure} problem=${error} retry=${reload} />` : html`<${Loading} what="the files" />`;
  const files = [...data.items, ...later];
  if (!files.length) return html`<p class="muted">No files yet.${search !== undefined ? " An export writes the winner as torch, ONNX and ncnn." : ""}</p>`;
  const next = cursor === undefined ? data.next : cursor;
  async function more() {
    try {
      const page = await api.get(path, { limit: LIMIT, cursor: next });
      setLater((was) => [...was, ...page.items]);
      setCursor(page.next);
    } catch (problem) {
      toast(problem.detail, "bad");
    }
  }
  const archives = files.filter(isArchive);
  return html`${archives.length > 0 && html`<div class="row jobs-archives">${archives.map((file) => html`<${Download} key=${file.id} file=${file} />`)}</div>`}
  <div class="scroll"><table class="table jobs-files">
    <caption class="sr-only">Files</caption>
    <thead><tr><th scope="col">File</th>${job === undefined && html`<th scope="col">Made by</th>`}<th scope="col" class="num">Size</th>
      <th scope="col"><span class="sr-only">Download</span></th></tr></thead>
    <tbody>${files.filter((file) => !isArchive(file)).map((file) => html`<tr key=${file.id} data-testid=${`artifact-${file.id}`}>
      <th scope="row" class="mono" title=${`SHA-256 ${file.sha256}`}>${file.name}</th>
      ${job === undefined && html`<td class="nowrap"><a href=${href(`/jobs/${file.job_id}`)}>job ${file.job_id}</a></td>`}
      <td class="num nowrap">${bytes(file.size)}</td>
      <td class="num"><${Download} file=${file} /></td></tr>`)}</tbody>
  </table></div>
  ${next && html`<${Button} kind="quiet" onClick=${more}>More files<//>`}`;
}

function isArchive({ name }) {
  return name.endsWith(".zip") && !name.includes("/");
}

function Download({ file }) {
  const [busy, setBusy] = useState(false);
  async function take() {
    setBusy(true);
    try {
      await api.save(`artifacts/${file.id}/content`, file.name.split("/").pop());
    } catch (problem) {
      toast(problem.detail, "bad");
    }
    setBusy(false);
  }
  if (isArchive(file)) return html`<${Button} kind="primary" icon="download" busy=${busy} onClick=${take}>All as ${file.name} (${bytes(file.size)})<//>`;
  return html`<${Button} kind="quiet" icon="download" busy=${busy} onClick=${take} label=${`Download ${file.name}`} />`;
}
