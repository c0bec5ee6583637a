/** Of every space: how many of its kernels the newest table knows. Asked for once it is seen, one space after the other. */
import * as api from "../../core/api.js";
import { count, plural } from "../../core/format.js";
import { useGet } from "../../core/query.js";
import { setQuery } from "../../core/router.js";
import { can } from "../../core/session.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { Badge, Progress } from "../../ui/controls.js";

export function Coverage({ board, digest }) {
  const spaces = useGet("spaces");
  // A profile's table is there a moment before its job is complete.
  const profiles = useGet("jobs", { kind: "profile", board, state: "complete", limit: 100 }, { on: { kinds: ["job.state"] } });
  const [found, setFound] = useState({ digest, of: {} });
  const [seen, place] = useSeen();
  const asked = spaces.data && profiles.data ? inOrder(spaces.data, profiles.data.items) : null;
  useEffect(() => {
    if (!seen || !asked) return;
    const control = new AbortController();
    (async () => {
      setFound({ digest, of: {} });
      for (const { space, ...pictures } of asked) {
        let told;
        try {
          told = await api.get(`tables/${digest}/coverage`, { space, ...pictures }, { signal: control.signal });
        } catch (problem) {
          if (problem.name === "AbortError") return;
          told = { problem: problem.detail ?? problem.message };
        }
        setFound((was) => ({ digest, of: { ...was.of, [space]: told } }));
      }
    })();
    return () => control.abort();
  }, [seen, digest, JSON.stringify(asked)]);

  return html`<div ref=${place}><ul class="boards-covers">${(asked ?? []).map(({ space, ...pictures }) => html`<li key=${space} data-testid=${`covers-${space}`}>
    <${Covers} space=${space} pictures=${pictures} told=${found.of[space]} /></li>`)}</ul></div>`;
}

/** Those that were profiled first, then the small ones: a large space takes seconds. */
function inOrder(spaces, profiles) {
  const found = spaces.map(({ space, size }) => ({ size, pictures: picturesOf(space, profiles), space }));
  const rank = ({ pictures }) => (Object.keys(pictures).length ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b) || a.size - b.size).map(({ space, pictures }) => ({ space, ...pictures }));
}

/** The pictures that the board was profiled for last; nothing: the space's own. */
function picturesOf(space, profiles) {
  const last = profiles.find(({ spec }) => spec.space === space)?.spec;
  const given = { resolution: last?.resolution ?? [], channels: last?.channels, classes: last?.classes };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null && value !== undefined && value.length !== 0));
}

function Covers({ space, pictures, told }) {
  const own = Object.keys(pictures).length === 0;
  const about = own ? "its usual pictures" : [pictures.resolution && `${pictures.resolution.join(", ")} px`, pictures.channels && (pictures.channels === 1 ? "grey" : `${pictures.channels} channels`),
    pictures.classes && plural(pictures.classes, "class", "classes")].filter(Boolean).join(", ");
  const name = html`<b>${space}</b> <span class="muted small">${about}</span>`;
  if (!told) return html`<div class="row spread"><span>${name}</span><span class="muted small">…</span></div>`;
  if (told.problem) return html`<div>${name}<p class="small muted">${told.problem}</p></div>`;
  const { kernels, timed, estimated, missing } = told;
  const parts = [`${count(timed)} timed`, estimated > 0 && `${count(estimated)} estimated`, missing > 0 && `${count(missing)} missing`].filter(Boolean).join(", ");
  return html`<div class="row spread"><span>${name}</span>${missing === 0 ? html`<${Badge} state="complete" text="ready" />`
      : can("admin") ? html`<button type="button" class="chip" onClick=${() => setQuery({ profile: space, resolution: pictures.resolution?.join(","), channels: pictures.channels, classes: pictures.classes })}>Profile it</button>`
      : html`<${Badge} state="queued" text="not profiled" />`}</div>
    <${Progress} value=${kernels - missing} max=${kernels} label=${`Kernels of ${space} that the table knows`}>
      <span class="muted">${missing === kernels ? `none of ${plural(kernels, "kernel")}` : `${count(kernels - missing)} of ${plural(kernels, "kernel")}: ${parts}`}</span><//>`;
}

function useSeen() {
  const place = useRef(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true), { rootMargin: "200px" });
    watch.observe(place.current);
    return () => watch.disconnect();
  }, []);
  return [seen, place];
}
