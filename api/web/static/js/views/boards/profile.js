/** Profiling a space on a board: a job that some worker takes. */
import { fieldErrors } from "../../core/api.js";
import { postOnce } from "../../core/once.js";
import { useGet } from "../../core/query.js";
import { setQuery } from "../../core/router.js";
import { can } from "../../core/session.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { Button, toast } from "../../ui/controls.js";
import { SelectField, TextField } from "../../ui/field.js";

const NUMBERS = /^[\d\s,]*$/;

/** ?profile=SPACE&resolution=16&channels=1&classes=10 fills it in. */
export function Profile({ board, query }) {
  const spaces = useGet("spaces");
  const [values, setValues] = useState({
    space: query.profile === "new" ? "" : query.profile, resolution: query.resolution ?? "", channels: query.channels ?? "", classes: query.classes ?? "",
  });
  const [sent, setSent] = useState({ busy: false, errors: {}, problem: null });
  const form = useRef(null);
  useEffect(() => form.current?.querySelector("select").focus(), []);
  const close = () => setQuery({ profile: null, resolution: null, channels: null, classes: null });
  if (!can("admin")) return html`<p class="notice">Profiling is for administrators: ask one to profile ${values.space} on ${board}.</p>`;

  async function submit(event) {
    event.preventDefault();
    if (sent.busy) return;
    const wrong = ["resolution", "channels", "classes"].filter((name) => !NUMBERS.test(values[name]));
    const errors = { ...Object.fromEntries(wrong.map((name) => [name, "Write whole numbers"])), ...(!values.space && { space: "Choose a space" }) };
    if (Object.keys(errors).length) return setSent({ busy: false, errors, problem: null });
    setSent({ busy: true, errors: {}, problem: null });
    const numbers = (text) => text.split(/[\s,]+/).filter(Boolean).map(Number);
    try {
      const job = await postOnce("jobs/profile", {
        board, space: values.space, resolution: numbers(values.resolution), channels: numbers(values.channels)[0] ?? null, classes: numbers(values.classes)[0] ?? null,
      });
      toast(`Job ${job.id} profiles ${values.space} on ${board}`);
      close();
    } catch (problem) {
      const told = fieldErrors(problem);
      setSent({ busy: false, errors: told, problem: Object.keys(told).some((field) => field in values) ? null : problem });
    }
  }

  const field = (name) => ({ name, value: values[name], error: sent.errors[name], onInput: (text) => setValues((was) => ({ ...was, [name]: text })) });
  return html`<form class="card stack" ref=${form} onSubmit=${submit} novalidate aria-label=${`Profile a space on ${board}`}>
    <h2>Profile a space on ${board}</h2>
    <div class="boards-fields">
      <${SelectField} ...${field("space")} label="Space" options=${[{ value: "", text: "Choose a space" }, ...(spaces.data ?? []).map(({ space }) => space)]} />
      <${TextField} ...${field("resolution")} label="Resolution" placeholder="the space's own" hint="In pixels; several make it a choice" />
      <${TextField} ...${field("channels")} label="Channels" placeholder="3" hint="1 is grey" />
      <${TextField} ...${field("classes")} label="Classes" placeholder="the space's own" />
    </div>
    ${sent.problem && html`<p class="notice bad" role="alert">${sent.problem.detail ?? sent.problem.message}</p>`}
    <div class="row"><${Button} kind="primary" type="submit" busy=${sent.busy}>Profile<//><${Button} onClick=${close}>Not now<//>
      <span class="muted small">Takes seconds to hours, as the board and the space are. An interrupted one goes on.</span></div>
  </form>`;
}
