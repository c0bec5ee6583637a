/** Registering a board: by address only, the server logs in with its own keys. */
import { fieldErrors } from "../../core/api.js";
import { postOnce } from "../../core/once.js";
import { useGet } from "../../core/query.js";
import { go } from "../../core/router.js";
import { can } from "../../core/session.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { Button, toast } from "../../ui/controls.js";
import { SelectField, TextField } from "../../ui/field.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ADDRESS = /^[A-Za-z0-9_.@+:[\]%-]{1,320}$/;
const EMPTY = { name: "", address: "", engine: "ncnn", threads: "1", cores: "", dtype: "fp32" };

/** "4-7" or "4, 5" -> numbers; null: neither. */
function readCores(text) {
  const cores = [];
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const [, first, last] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) < Number(first)) return null;
    for (let core = Number(first); core <= Number(last ?? first); core += 1) cores.push(core);
  }
  return cores;
}

export function Register({ onDone }) {
  if (!can("admin")) return html`<p class="muted small">Boards are registered by administrators, because the server logs in to them.</p>`;
  return html`<details class="card boards-register"><summary>Register a board</summary><${Form} onDone=${onDone} /></details>`;
}

function Form({ onDone }) {
  const [values, setValues] = useState(EMPTY);
  const [sent, setSent] = useState({ busy: false, errors: {}, problem: null });
  const form = useRef(null);
  const catalogue = useGet("catalogue");
  useEffect(() => {
    if (sent.problem || Object.keys(sent.errors).length) form.current.querySelector('[aria-invalid="true"], [data-refused]')?.focus();
  }, [sent]);

  async function submit(event) {
    event.preventDefault();
    if (sent.busy) return;
    const cores = readCores(values.cores);
    const errors = {
      ...(!NAME.test(values.name) && { name: "Letters, digits, '.', '_' and '-', beginning with a letter or digit, e.g. pi4" }),
      ...(!ADDRESS.test(values.address) && { address: "[user@]host[:port] of its SSH server, or local" }),
      ...(cores === null && { cores: "Write 4,5,6,7 or 4-7" }), ...(!/^[1-9]\d*$/.test(values.threads) && { threads: "A whole number of at least 1" }),
    };
    if (Object.keys(errors).length) return setSent({ busy: false, errors, problem: null });
    setSent({ busy: true, errors: {}, problem: null });
    try {
      const made = await postOnce("boards", { ...values, threads: Number(values.threads), cores });
      toast(`${made.name} is registered; profile a space on it`);
      onDone();
      go(`/boards/${encodeURIComponent(made.name)}`);
    } catch (problem) {
      const told = problem.status === 409 ? { name: problem.detail } : fieldErrors(problem);
      const left = Object.keys(told).some((field) => field in EMPTY) ? null : problem;
      setSent({ busy: false, errors: told, problem: left });
    }
  }

  const field = (name) => ({
    name, value: values[name], error: sent.errors[name],
    onInput: (text) => {
      setValues((was) => ({ ...was, [name]: text }));
      if (sent.errors[name]) setSent((was) => ({ ...was, errors: Object.fromEntries(Object.entries(was.errors).filter(([of]) => of !== name)) }));
    },
  });
  return html`<form class="stack" ref=${form} onSubmit=${submit} novalidate aria-label="Register a board">
    <div class="boards-fields">
      <${TextField} ...${field("name")} label="Name" placeholder="pi4" />
      <${TextField} ...${field("address")} label="Address" placeholder="pi@raspberrypi.local" hint="[user@]host[:port], or local for the server itself" />
      <${SelectField} ...${field("engine")} label="Engine" options=${catalogue.data?.board_engines ?? ["ncnn"]} />
      <${SelectField} ...${field("dtype")} label="Arithmetic" options=${["fp32", "fp16", "bf16"]} />
      <${TextField} ...${field("threads")} label="Threads" />
      <${TextField} ...${field("cores")} label="Cores to pin to" placeholder="as the system chooses" hint="4-7, or 4,5" />
    </div>
    ${sent.problem && html`<p class="notice bad" role="alert" tabindex="-1" data-refused>${sent.problem.detail ?? sent.problem.message}</p>`}
    <div class="row"><${Button} kind="primary" type="submit" busy=${sent.busy}>Register<//><span class="muted small">Nothing is sent to it yet; the server logs in with its own user's SSH keys.</span></div>
  </form>`;
}
