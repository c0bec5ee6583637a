/** Tables to take home (RFC 4180). */
import { saveBlob } from "./api.js";

/** A spreadsheet would run a text that begins with one of these as a formula. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

function cell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {Record<string, ArrayLike<unknown>>} columns by title, all of the same length */
export function csvText(columns) {
  const titles = Object.keys(columns);
  const lines = [titles.map(cell).join(",")];
  const rows = Math.max(0, ...titles.map((title) => columns[title].length));
  for (let i = 0; i < rows; i += 1) lines.push(titles.map((title) => cell(columns[title][i])).join(","));
  return lines.join("\r\n") + "\r\n";
}

export function saveCsv(filename, columns) {
  saveBlob(new Blob([csvText(columns)], { type: "text/csv;charset=utf-8" }), filename);
}
