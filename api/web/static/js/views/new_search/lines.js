/** The same submission from a terminal, or from a program. */
import { url } from "../../core/api.js";

function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${python(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

export function linesOf(body) {
  const at = url("searches");
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const given = Object.entries(body).map(([name, value]) => `    ${name === "from" ? "earlier" : name}=${python(value)},\n`).join("");
  return [
    { name: "curl", text: `curl -H "Authorization: Bearer $LIGHTNAS_TOKEN" -H 'Content-Type: application/json' \\\n  ${at} \\\n  -d '${json}'` },
    {
      name: "Python",
      text: `from api.client import Client\nfrom api.schemas.searches import SearchRequest\n\nclient = Client("${at.replace("/api/v1/searches", "")}")  # the token: LIGHTNAS_TOKEN\n`
        + `search = client.submit(SearchRequest(\n${given}))`,
    },
  ];
}
