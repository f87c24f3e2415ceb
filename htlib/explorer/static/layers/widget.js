// @ts-check
// The view of layers as a widget: rows come with the model, eigenvalues by messages of the kernel.

import { ChangesView } from "./changes.js";
import { LayersView } from "./view.js";

/** @import { Change, Row } from "../../../../live/src/mirror/table" */
/** @typedef {{ type: "spectrum", index: number }} Request */
/**
 * @typedef {{
 *   get: (name: string) => any, send: (message: Request) => void,
 *   on: (event: string, callback: (message: Request, buffers: DataView[]) => void) => void,
 *   off: (event: string, callback: (message: Request, buffers: DataView[]) => void) => void,
 * }} Model
 */

/**
 * @param {{ columns: string[], values: unknown[][] }} table
 * @returns {Record<string, unknown>[]}
 */
function rowsOf({ columns, values }) {
  return values.map((row) => Object.fromEntries(columns.map((name, i) => [name, numberOf(row[i])])));
}

/**
 * JSON has numbers only if they are finite.
 * @param {any} value
 */
function numberOf(value) {
  return value === null ? NaN : (value["infinity"] ? value["infinity"] * Infinity : value);
}

/** @param {{ model: Model, el: HTMLElement }} context */
function render({ model, el }) {
  const { title, file, noise, columns, table, skipped, changes } = model.get("content");
  const rows = /** @type {Row[]} */ (/** @type {unknown} */ (rowsOf(table)));
  /** @type {Map<number, (values: Float64Array | null) => void>} */
  const asked = new Map();
  /** @type {Map<Row, Promise<Float64Array | null>>} */
  const spectra = new Map();

  /** @param {Row} row */
  function spectrum(row) {
    let found = spectra.get(row);
    if (!found) {
      const index = rows.indexOf(row);
      found = new Promise((settle) => asked.set(index, settle));
      spectra.set(row, found);
      model.send({ type: "spectrum", index });
    }
    return found;
  }
  /** @type {(message: Request, buffers: DataView[]) => void} */
  function receive({ index }, buffers) {
    // a copy, because the bytes of a message do not begin where a Float64Array may
    const values = buffers.map(({ buffer, byteOffset, byteLength }) => new Float64Array(buffer.slice(byteOffset, byteOffset + byteLength)));
    asked.get(index)?.(values[0] ?? null);
  }
  model.on("msg:custom", receive);

  const place = document.createElement("div");
  // Keys are for what has the focus, not for JupyterLab's cells; it looks for this mark first at the element itself.
  place.addEventListener("focusin", ({ target }) => {
    /** @type {HTMLElement} */ (target).dataset["lmSuppressShortcuts"] = "true";
  });
  el.append(place);
  const view = new LayersView(place, { title, file, noise, columns, spectrum });
  view.expect();
  for (const row of rows) view.add(row);
  for (const one of skipped) view.skip(one);
  view.end();
  if (changes) {
    const compared = new ChangesView(view, changes.title);
    compared.expect();
    const all = /** @type {unknown} */ ([...rowsOf(changes.table), ...changes.skipped]);
    for (const one of /** @type {Change[]} */ (all)) compared.take(one);
    compared.end(changes.table.columns, changes.file);
  }
  return () => {
    model.off("msg:custom", receive);
    view.close();
  };
}

export default { render };
