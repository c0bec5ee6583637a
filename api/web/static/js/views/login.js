/** Signing in with a token. */
import { session, signIn } from "../core/session.js";
import { useStore } from "../core/store.js";
import { html, useEffect, useRef, useState } from "../core/ui.js";
import { Button } from "../ui/controls.js";
import { CheckField, TextField } from "../ui/field.js";

export default function Login() {
  const { state, user } = useStore(session);
  const [text, setText] = useState("");
  const [keep, setKeep] = useState(false);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  useEffect(() => {
    document.title = "Sign in · lightnas";
    form.current?.querySelector("input")?.focus();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    if (!/^nas_[\w-]+$/.test(text.trim())) return setError("A token begins with nas_; paste the whole of it.");
    setBusy(true);
    try {
      await signIn(text.trim(), keep);
    } catch (problem) {
      const refused = problem.status === 401;
      setError(refused ? "The server does not know this token: it may be revoked or expired, or a part is missing."
        : problem.status === 429 ? "Too many tries; wait a minute." : "The server cannot be reached; is it running?");
      setBusy(false);
    }
  };
  return html`<main class="login"><form class="card" ref=${form} onSubmit=${submit} novalidate>
    <div class="brand"><img src="assets/icon.svg" alt="" />lightnas</div>
    <div><h1>${state === "expired" ? "Sign in again" : "Sign in"}</h1>
      <p class="muted">${state === "expired" ? `${user ? `${user}, your` : "Your"} token is no longer valid: it expired or was revoked. Nothing is lost; searches run on.`
        : "See what your searches think, and take their winners home."}</p></div>
    <${TextField} label="Token" type="password" name="token" autocomplete="current-password" value=${text} onInput=${(v) => { setText(v); setError(null); }} error=${error}
      placeholder="nas_…" />
    <${CheckField} label="Keep me signed in on this device" value=${keep} onInput=${setKeep} hint="Otherwise until this tab is closed." />
    <${Button} kind="primary" type="submit" busy=${busy}>Sign in<//>
    <details><summary>Where do I find a token?</summary><div class="stack small">
      <p>On the machine that runs <code>nas serve</code>, the first start prints an address with the token in it; it is also in the file <code>token</code> of LIGHTNAS_HOME.</p>
      <p>An administrator makes one for you: <code>nas tokens create ada --role user</code></p></div></details>
  </form></main>`;
}
