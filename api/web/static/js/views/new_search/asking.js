/** What the server says of a form that is being filled in: asked a moment after the last key, the earlier question dropped. */
import * as api from "../../core/api.js";
import { fieldErrors } from "../../core/api.js";
import { useEffect, useState } from "../../core/ui.js";

const ANY = 1e15; // as a budget: all networks keep it

/** ask(signal) for a key (null: nothing to ask); what was known stays while a newer answer comes. */
export function useAsked(key, ask, wait_ms = 250) {
  const [state, setState] = useState({ data: null, error: null, of: null });
  useEffect(() => {
    if (key === null) return setState({ data: null, error: null, of: null });
    const control = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const data = await ask(control.signal);
        if (!control.signal.aborted) setState({ data, error: null, of: key });
      } catch (error) {
        if (error.name !== "AbortError" && !control.signal.aborted) setState((was) => ({ ...was, error, of: key }));
      }
    }, wait_ms);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [key]);
  return { data: state.data, error: state.error, loading: key !== null && state.of !== key };
}

/** Of a search's body what decides a space and its costs. */
export function settingsOf({ resolution = [], classes = null, channels = null }) {
  return { resolution, classes, channels };
}

/**
 * What a body leaves of its space: {found, errors, smallest}. Where a budget or the board cannot be, `errors` tells of the
 * field, and `found` is what there would be without it, so that there is a picture to choose from; `smallest`: metric -> the
 * smallest possible, of budgets that cannot be kept.
 */
export async function look(body, signal) {
  const budgets = { ...body.budgets };
  if (body.reward === "soft") delete budgets.latency_ms; // it is aimed at, not kept
  let asked = { ...settingsOf(body), budgets };
  if (body.table) asked.table = body.table;
  else if (body.board) asked.board = body.board;
  if (body.confidence && budgets.latency_ms !== undefined) asked.confidence = body.confidence;
  const errors = {};
  for (;;) {
    try {
      const found = await api.post(`spaces/${encodeURIComponent(body.space)}/feasibility`, asked, { signal });
      const freed = Object.entries(asked.budgets).filter(([, limit]) => limit === ANY);
      return { found, errors, smallest: Object.fromEntries(freed.map(([metric]) => [metric, found.budgets[metric].smallest_possible])) };
    } catch (problem) {
      const told = fieldErrors(problem);
      const less = without(asked, Object.keys(told));
      if (less === null) throw problem;
      Object.assign(errors, told);
      asked = less;
    }
  }
}

/** The question without the fields that cannot be; null: it is not for them. */
function without(asked, fields) {
  const { board, table, confidence, ...left } = asked;
  if (fields.some((field) => field === "board" || field === "table")) {
    if (!board && !table) return null;
    const { latency_ms: _, ...others } = asked.budgets;
    return { ...left, budgets: others };
  }
  const metrics = fields.map((field) => /^budgets\.(\w+)$/.exec(field)?.[1]).filter((metric) => metric in asked.budgets && asked.budgets[metric] !== ANY);
  if (metrics.length) return { ...asked, budgets: { ...asked.budgets, ...Object.fromEntries(metrics.map((metric) => [metric, ANY])) } };
  if (!fields.includes("budgets") || !Object.keys(asked.budgets).length) return null;
  return { ...left, ...(board && { board }), ...(table && { table }), budgets: {} };
}
