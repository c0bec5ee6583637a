/** The request that asks for a job once more. */
import { isExact } from "../../core/format.js";

/** The body of POST jobs/{kind} that a job came from, its seed as a browser knows it; null as in `again`. */
export function asked({ kind, spec, board, search_id: search }) {
  if (kind === "profile") return { ...spec, board };
  if (kind === "export") return { ...spec, search };
  if (kind !== "verify") return null;
  const { accuracy, pictures, top, random, seed, passes } = spec;
  const rest = accuracy ? { accuracy, pictures } : random === null ? { top, passes } : { random, seed, passes };
  return { search, board, ...rest };
}

/**
 * The body of POST jobs/{kind}; null for kinds that are begun elsewhere (a search, a final training), and where the seed is
 * not known exactly: with another one it is another job.
 */
export function again(job) {
  const body = asked(job);
  return body && isExact(body.seed ?? 0) ? body : null;
}
