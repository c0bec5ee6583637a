/** Form fields: a label, a hint, and the error beside the field. */
import { html, useId, useState } from "../core/ui.js";
import { Icon } from "./controls.js";

/** `children(id, describedBy, invalid)` renders the control. */
export function Field({ label, hint, error, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || null;
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children(id, described, error ? "true" : null)}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${error && html`<span class="error" id=${`${id}-error`} role="alert"><${Icon} name="warn" />${error}</span>`}
  </div>`;
}

export function TextField({ value, onInput, type = "text", placeholder, name, required, autocomplete = "off", ...field }) {
  return html`<${Field} ...${field}>${(id, described, invalid) => html`<input class="input" ...${{ id, type, placeholder, name, required, autocomplete }}
    aria-describedby=${described} aria-invalid=${invalid} value=${value ?? ""} onInput=${(e) => onInput(e.target.value)} />`}<//>`;
}

/** onInput gets a number, or null for an empty field. */
export function NumberField({ value, onInput, unit, min, max, step = "any", name, placeholder, ...field }) {
  // What is typed stays as it is typed: "1.0" is a number already, and on its way to 1.05.
  const [typed, setTyped] = useState("");
  const same = typed !== "" && Number(typed) === value;
  return html`<${Field} ...${field}>${(id, described, invalid) => html`<span class="with-unit">
    <input class="input" type="number" inputmode="decimal" ...${{ id, min, max, step, name, placeholder }} aria-describedby=${described} aria-invalid=${invalid}
      value=${same ? typed : String(value ?? "")} onInput=${(e) => {
        setTyped(e.target.value);
        onInput(e.target.value === "" ? null : e.target.valueAsNumber);
      }} />
    ${unit && html`<span class="unit">${unit}</span>`}</span>`}<//>`;
}

/** options: [{value, text}] or texts. */
export function SelectField({ value, onInput, options, name, ...field }) {
  return html`<${Field} ...${field}>${(id, described, invalid) => html`<select class="input" id=${id} name=${name} aria-describedby=${described}
    aria-invalid=${invalid} value=${value ?? ""} onChange=${(e) => onInput(e.target.value)}>
    ${options.map((one) => (typeof one === "string" ? { value: one, text: one } : one)).map((one) => html`<option key=${one.value} value=${one.value}
      selected=${String(one.value) === String(value ?? "")}>${one.text}</option>`)}</select>`}<//>`;
}

export function CheckField({ label, value, onInput, hint, name }) {
  const id = useId();
  return html`<div class="field"><span class="check"><input type="checkbox" id=${id} name=${name} checked=${Boolean(value)}
    aria-describedby=${hint ? `${id}-hint` : null} onChange=${(e) => onInput(e.target.checked)} /><label for=${id}>${label}</label></span>
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}</div>`;
}
