/** The request that asks for a job once more. */

/** The body of POST jobs/{kind}; null for kinds that are begun elsewhere: a search, a final training. */
export function again({ kind, spec, board, search_id: search }) {
  if (kind === "profile") return { ...spec, board };
  if (kind === "export") return { ...spec, search };
  if (kind !== "verify") return null;
  const { accuracy, pictures, top, random, seed, passes } = spec;
  const rest = accuracy ? { accuracy, pictures } : random === null ? { top, passes } : { random, seed, passes };
  return { search, board, ...rest };
}
