/** Filters above a list; the address holds them. */
import { setQuery } from "../../core/router.js";
import { session } from "../../core/session.js";
import { useStore } from "../../core/store.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../../core/ui.js";
import { useMedia } from "../../core/hooks.js";

const TYPED_MS = 250;

/** The filters of a list; on a phone they open on demand, or where one is set. */
export function FilterBar({ label, set, children }) {
  const phone = useMedia("(max-width: 560px)");
  const inside = html`<div class="filters" role="search" aria-label=${label}>${children}</div>`;
  return phone ? html`<details class="filters-box" open=${set}><summary>Filters</summary>${inside}</details>` : inside;
}

/** options: [{value, text}] or texts; `all` is what no choice is called. A value that is no option is shown all the same. */
export function ChoiceFilter({ name, label, value = "", all, options }) {
  const id = useId();
  const known = options.map((one) => (typeof one === "string" ? { value: one, text: one } : one));
  const shown = value && !known.some((one) => one.value === value) ? [...known, { value, text: value }] : known;
  return html`<div class="filter"><label for=${id}>${label}</label>
    <select class="input" id=${id} onChange=${(e) => setQuery({ [name]: e.target.value || null })}>
      <option value="" selected=${!value}>${all}</option>
      ${shown.map((one) => html`<option key=${one.value} value=${one.value} selected=${one.value === value}>${one.text}</option>`)}
    </select></div>`;
}

/** Set a moment after the last key; whoever else changes the address changes the text. */
export function TextFilter({ name, label, value = "", placeholder, ...input }) {
  const id = useId();
  const [text, setText] = useState(value);
  const timer = useRef(null);
  const written = useRef(value);
  useLayoutEffect(() => { // before the next key: what was written is no news, and older than what was typed since
    if (value === written.current) return;
    clearTimeout(timer.current);
    written.current = value;
    setText(value);
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  function onInput({ target }) {
    setText(target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      written.current = target.value.trim();
      setQuery({ [name]: written.current || null });
    }, TYPED_MS);
  }
  return html`<div class="filter"><label for=${id}>${label}</label>
    <input class="input" id=${id} type="search" value=${text} placeholder=${placeholder} autocomplete="off" onInput=${onInput} ...${input} /></div>`;
}

/** `me` in an address means whoever looks at it. */
export function OwnerFilter({ value }) {
  return html`<${ChoiceFilter} name="owner" label="Owner" value=${value} all="Everyone" options=${[{ value: "me", text: "Me" }]} />`;
}

/** The user an owner filter means. */
export function useOwner(value) {
  const { user } = useStore(session);
  return value === "me" ? user : value;
}
