/** Fields of this form: what is typed is kept as it is. */
import { html } from "../../core/ui.js";
import { Field } from "../../ui/field.js";

/** A number or a list of numbers, as text: "300M" and "1e6" are numbers, too. */
export function Typed({ name, values, set, unit, errors, field = name, placeholder, ...more }) {
  return html`<${Field} error=${errors[field]} ...${more}>${(id, described, invalid) => html`<span class="with-unit">
    <input class="input" type="text" inputmode="decimal" autocomplete="off" spellcheck="false" id=${id} name=${name} placeholder=${placeholder}
      aria-describedby=${described} aria-invalid=${invalid} value=${values[name] ?? ""} onInput=${(e) => set({ [name]: e.target.value })} />
    ${unit && html`<span class="unit">${unit}</span>`}</span>`}<//>`;
}

/** options: [{value, text}] or texts; a value that is no option is shown all the same. */
export function Choice({ name, values, set, errors, options, field = name, fallback = "", onPick, ...more }) {
  const known = options.map((one) => (typeof one === "string" ? { value: one, text: one } : one));
  const value = values[name] ?? fallback;
  const all = known.some((one) => one.value === value) ? known : [...known, { value, text: value }];
  return html`<${Field} error=${errors[field]} ...${more}>${(id, described, invalid) => html`<select class="input" id=${id} name=${name}
    aria-describedby=${described} aria-invalid=${invalid} onChange=${(e) => (onPick ?? ((picked) => set({ [name]: picked })))(e.target.value)}>
    ${all.map((one) => html`<option key=${one.value} value=${one.value} selected=${one.value === value}>${one.text}</option>`)}</select>`}<//>`;
}
