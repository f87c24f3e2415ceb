// @ts-check
// What the views of layers and of changes have in common.

import { make } from "./elements.js";

/** @typedef {{ name: string, reason: string }} Skipped */

/** @param {readonly (readonly [string, string])[]} entries */
export function keyOf(entries) {
  return make("figcaption", { class: "key" }, ...entries.map(([name, text]) => make("span", {}, make("i", { class: `swatch ${name}` }), text)));
}

/**
 * @param {HTMLElement} status
 * @param {string} message
 */
export function complain(status, message) {
  status.setAttribute("role", "alert");
  status.classList.add("error");
  status.textContent = message;
}

/**
 * @param {readonly [number, number]} shape
 * @param {number} count
 */
export function written([h, d], count) {
  return `${count > 1 ? `${count} × ` : ""}${h} × ${d}`;
}

/**
 * @param {string} text
 * @param {string} name
 */
export function save(text, name) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: `${name}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}
