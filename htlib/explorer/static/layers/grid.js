// @ts-check
// A table that can be sorted by each of its columns, and whose rows come one by one.

import { make } from "./elements.js";

const WIDTH = 6.5;
const AT_ONCE = 16; // lines that are complete from the start; hundreds would keep the page busy
const NEAR = { rootMargin: "2000px 0px", scrollMargin: "250px 0px" }; // of the window, and of the table's own scrolling

/**
 * Texts are aligned to the left.  Widths are in em, and fixed, so that columns do not move while rows come; `help` says what
 * the column is, for those who ask.
 * @template T
 * @typedef {{
 *   title: string, help: string, value: (row: T) => number | string | undefined, write: (row: T) => Node | string,
 *   text?: boolean, width?: number,
 * }} Column
 */

/** @template T */
export class Grid {
  /** @type {Map<T, HTMLTableRowElement>} */
  #lines = new Map();
  /** @type {{ column: Column<T>, down: boolean } | null} */
  #sorted = null;
  #body = make("tbody", { role: "rowgroup" }); // roles, because the style sheet makes each line a grid
  #columns;
  /** @type {Map<Element, T>} Lines with nothing but their first cell. */
  #bare = new Map();
  #near = new IntersectionObserver((lines) => {
    for (const { isIntersecting, target } of lines) if (isIntersecting) this.#complete(target);
  }, NEAR);

  /**
   * @param {readonly Column<T>[]} columns
   * @param {string} caption
   */
  constructor(columns, caption) {
    this.#columns = columns;
    const heads = columns.map((column) => {
      const button = make("button", { type: "button", title: column.help, click: () => this.#sort(column) }, column.title);
      return make("th", { scope: "col", role: "columnheader", class: column.text ? "text" : null }, button);
    });
    const [first, ...others] = columns.map(({ width = WIDTH }) => width);
    // the style sheet may narrow the first column
    const tracks = [`minmax(var(--first, ${first}em), ${first}fr)`, ...others.map((width) => `minmax(${width}em, ${width}fr)`)];
    const total = others.reduce((sum, width) => sum + width, 0);
    const style = `--columns: ${tracks.join(" ")}; width: max(100%, var(--first, ${first}em) + ${total}em)`;
    this.element = make("table", { role: "table", style }, make("caption", {}, caption), make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), this.#body);
  }

  /**
   * Show a row in a line that waits for it, or in a new one.
   * @param {T} row
   * @param {HTMLTableRowElement | null} at
   */
  set(row, at = null) {
    const line = at ?? make("tr", { role: "row" }); // a new line would make the browser style all others anew
    const [first] = this.#columns;
    line.replaceChildren(make("th", { scope: "row", role: "rowheader", class: first.text ? "text" : null }, first.write(row)));
    line.className = "";
    if (!at) this.#body.append(line);
    this.#lines.set(row, line);
    this.#bare.set(line, row);
    if (this.#lines.size <= AT_ONCE) this.#complete(line);
    else this.#near.observe(line);
  }

  /** @param {Element} line */
  #complete(line) {
    const row = this.#bare.get(line);
    if (row) line.append(...this.#columns.slice(1).map((column) => make("td", { role: "cell", class: column.text ? "text" : null }, column.write(row))));
    this.#bare.delete(line);
    this.#near.unobserve(line);
  }

  /**
   * Add a line that only says what will be there.
   * @param {string} name
   * @param {string} shape
   */
  waiting(name, shape) {
    const line = make("tr", { role: "row", class: "waiting" },
      make("th", { scope: "row", role: "rowheader", class: "text" }, name), make("td", { role: "cell", class: "text" }, shape));
    this.#body.append(line);
    return line;
  }

  /** @param {T} row */
  lineOf(row) {
    return this.#lines.get(row);
  }

  /** @param {Column<T>} column */
  #sort(column) {
    const down = this.#sorted?.column === column ? !this.#sorted.down : !column.text;
    this.#sorted = { column, down };
    /** @type {(row: T) => number | string} */
    const key = (row) => {
      const value = column.value(row);
      return value === undefined || (typeof value === "number" && Number.isNaN(value)) ? -Infinity : value;
    };
    const order = [...this.#lines.keys()].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
    if (down) order.reverse();
    this.#body.append(...order.flatMap((row) => this.#lines.get(row) ?? []));
    this.element.querySelectorAll("thead th").forEach((head, i) => {
      if (this.#columns[i] === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
}

/**
 * Write rows as comma-separated values, as pandas does: without a number there is nothing.
 * @param {readonly string[]} names
 * @param {readonly object[]} rows
 */
export function csv(names, rows) {
  /** @type {(value: unknown) => string} */
  const cell = (value) => {
    if (value === undefined || value === null || (typeof value === "number" && Number.isNaN(value))) return "";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (Array.isArray(value)) return value.join("x");
    if (typeof value === "number" && !Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    const text = String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => names.map((name) => cell(/** @type {Record<string, unknown>} */ (row)[name])).join(","));
  return `${[names.join(","), ...lines].join("\n")}\n`;
}
