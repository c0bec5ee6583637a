/** A new search: a form that shows what its choices leave of the space, before anything runs. */
import * as api from "../core/api.js";
import { Problem, fieldErrors } from "../core/api.js";
import { postOnce } from "../core/once.js";
import { useGet } from "../core/query.js";
import { go, setQuery } from "../core/router.js";
import { can } from "../core/session.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/ui.js";
import { Button, Icon } from "../ui/controls.js";
import { Snippet } from "../ui/snippet.js";
import { Failure, Loading, Page } from "../ui/states.js";
import { look, useAsked } from "./new_search/asking.js";
import { readAddress, toBody, writeAddress } from "./new_search/fields.js";
import { linesOf } from "./new_search/lines.js";
import { fillDemo, fillFrom } from "./new_search/prefill.js";
import { Preview } from "./new_search/preview.js";
import { How, Naming, Time, What, Where } from "./new_search/sections.js";

const ADDRESS_MS = 300;

export default function NewSearch({ query }) {
  const catalogue = useGet("catalogue");
  const spaces = useGet("spaces");
  const filled = useFilled(query);
  const failed = catalogue.error ?? spaces.error ?? filled.error;
  if (failed) return html`<${Page} title="New search"><${Failure} problem=${failed} retry=${() => location.reload()} /><//>`;
  if (!catalogue.data || !spaces.data || filled.loading) {
    return html`<${Page} title="New search"><${Loading} what=${query.demo ? "the demo" : "the form"} /><//>`;
  }
  return html`<${Form} query=${query} catalogue=${catalogue.data} spaces=${spaces.data} said=${filled.said} />`;
}

/** ?demo=1 and ?from=3 become the address of the form they fill in; what else the address says wins. */
function useFilled(query) {
  const [state, setState] = useState({ error: null, said: null });
  const { demo, from, show: _, ...given } = query;
  const asked = demo ? "demo" : from ? `from ${from}` : null;
  useEffect(() => {
    if (asked === null) return;
    let gone = false;
    const found = demo ? fillDemo().then((values) => ({ values })) : fillFrom(from);
    found.then(({ values, name, inexact }) => {
      if (gone) return;
      setState({ error: null, said: demo ? "The demo is filled in: it needs no data of yours. Change what you like, then submit."
        : `With the settings of ${name}${inexact ? ", but not its seed, which is larger than a browser keeps exactly" : ""}.` });
      go("/new", { ...writeAddress(values), ...given }, { replace: true });
    }, (error) => !gone && setState({ error, said: null }));
    return () => {
      gone = true;
    };
  }, [asked]);
  return { ...state, loading: asked !== null && !state.error };
}

function Form({ query, catalogue, spaces, said }) {
  const [values, set, replace] = useValues(query);
  const form = useRef(null);
  const { body, errors: own } = useMemo(() => toBody(values, catalogue), [values, catalogue]);
  const known = spaces.some(({ space }) => space === body.space);
  const looked = useAsked(known ? settingsKey(body) : null, (signal) => look(body, signal));
  const wrong = Object.keys({ ...own, ...looked.data?.errors }).length > 0;
  const ready = known && can("user") && !wrong && !looked.loading;
  const checked = useAsked(ready ? JSON.stringify(body) : null, (signal) => api.post("searches/check", body, { signal }), 350);
  const [sent, setSent] = useState({ busy: false, problem: null, body: null, tries: 0 });
  const refused = sent.problem && sent.body === JSON.stringify(body) ? sent.problem : null;

  const errors = {
    ...(checked.loading ? {} : fieldErrors(checked.error)), ...(looked.data?.errors ?? {}), ...fieldErrors(refused), ...own,
    ...(body.space && !known && { space: `There is no space ${body.space} here` }),
  };
  if (/lacks \d+ ops/.test(errors.board ?? "")) errors.board = "Its latency table does not know this space with these pictures";
  if (checked.data?.name_free === false && !checked.loading) errors.name = `There is a search ${body.name} already; choose another name`;
  if (refused?.status === 409 && body.name) errors.name = refused.detail;
  const shown = Object.fromEntries(Object.entries(errors).filter(([field]) => field !== "space" || body.space || sent.tries > 0));

  useEffect(() => {
    if (sent.tries === 0 || sent.busy) return;
    const first = form.current.querySelector('[aria-invalid="true"], [data-refused]');
    const folded = first?.closest("details:not([open])");
    if (folded) folded.open = true;
    first?.focus();
  }, [sent]);

  async function submit(event) {
    event.preventDefault();
    if (!can("user") || sent.busy) return;
    const tries = sent.tries + 1;
    if (Object.keys(errors).length) return setSent({ busy: false, problem: null, body: null, tries });
    setSent({ busy: true, problem: null, body: null, tries });
    try {
      const made = await postOnce("searches", body);
      go(`/searches/${made.id}`);
    } catch (problem) {
      const told = problem instanceof Problem ? problem : { title: "Something went wrong", detail: problem.message };
      setSent({ busy: false, problem: told, body: JSON.stringify(body), tries });
    }
  }

  const parts = { values, set, errors: shown, catalogue, spaces, body, looked, checked };
  const clear = html`<${Button} onClick=${() => replace({})}>Clear<//>`;
  return html`<${Page} title="New search" wide crumbs=${[{ text: "Searches", href: "#/searches" }]} actions=${Object.keys(values).length > 0 && clear}>
    ${said && Object.keys(values).length > 0 && html`<p class="notice good" role="status">${said}</p>`}
    <form class="new-form" ref=${form} onSubmit=${submit} novalidate aria-label="New search" data-testid="new-search">
      <div class="new-first stack"><${What} ...${parts} /><${Where} ...${parts} /></div>
      <div class="new-then stack">
        <${How} ...${parts} />
        <${Naming} ...${parts} />
      </div>
      <div class="new-look"><${Preview} ...${parts} onDemo=${() => go("/new", { demo: 1 }, { replace: true })} /></div>
      <${Submit} errors=${shown} refused=${refused} checked=${checked} busy=${sent.busy} tries=${sent.tries} body=${body} />
      <section class="card new-lines"><h2>The same without the dashboard</h2><${Snippet} lines=${linesOf(body)} /></section>
    </form>
  <//>`;
}

/** What decides the picture; a trial's number of epochs does not. */
function settingsKey({ space, resolution, classes, channels, board, table, budgets, confidence, reward }) {
  return JSON.stringify([space, resolution, classes, channels, board, table, budgets, confidence, reward]);
}

/** The typed texts: here at once, in the address a moment later. Whoever changes the address changes the form. */
function useValues(query) {
  const [values, setValues] = useState(() => readAddress(query));
  const written = useRef(JSON.stringify(values));
  const timer = useRef(null);
  const told = JSON.stringify(readAddress(query));
  useEffect(() => {
    if (told === written.current) return;
    written.current = told;
    setValues(JSON.parse(told));
  }, [told]);
  useEffect(() => {
    const kept = Object.fromEntries(Object.entries(values).filter(([, text]) => text !== ""));
    if (JSON.stringify(readAddress(writeAddress(kept))) === told) return;
    timer.current = setTimeout(() => {
      written.current = JSON.stringify(readAddress(writeAddress(kept)));
      const gone = Object.fromEntries(Object.keys(writeAddress(readAddress(query))).map((name) => [name, null]));
      setQuery({ ...gone, ...writeAddress(kept) });
    }, ADDRESS_MS);
    return () => clearTimeout(timer.current);
  }, [values]);
  /** Change some; undefined removes. */
  const set = (patch) => setValues((was) => Object.fromEntries(Object.entries({ ...was, ...patch }).filter(([, text]) => text !== undefined)));
  return [values, set, setValues];
}

/** Always in sight on a wide screen: how long it takes, and the button. */
function Submit({ errors, refused, checked, busy, tries, body }) {
  const may = can("user");
  const wrong = Object.keys(errors).length;
  const other = refused && !refused.errors?.length && !errors.name ? refused : null;
  const doubts = !checked.loading && checked.error && !checked.error.errors?.length && checked.error.status !== 0 ? checked.error : null;
  return html`<section class="card new-submit" aria-label="Submit">
    ${!may && html`<p class="notice" id="new-may">Your token may look, but not submit. Ask an administrator for one with the role “user”; what you fill in stays in this page's address.</p>`}
    ${other && html`<p class="notice bad" role="alert" tabindex="-1" data-refused>${other.detail}</p>`}
    ${!other && doubts && html`<p class="notice bad" role="status"><${Icon} name="warn" /> ${doubts.detail}</p>`}
    ${tries > 0 && wrong > 0 && html`<p class="notice bad" role="alert">${wrong === 1 ? "One field is" : `${wrong} fields are`} not right yet; the line below it says why.</p>`}
    <div class="new-go"><${Time} checked=${checked} body=${body} />
    <${Button} kind="primary" type="submit" busy=${busy} disabled=${!may} icon="play" aria-describedby=${may ? null : "new-may"}>Submit the search<//></div>
  </section>`;
}
