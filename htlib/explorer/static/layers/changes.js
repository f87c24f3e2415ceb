// @ts-check
// What a reader sees of the changes from one model to another, below the first.

import { changes } from "./charts.js";
import { format, make } from "./elements.js";
import { csv, Grid } from "./grid.js";
import { complain, keyOf, save, written } from "./parts.js";

/** @import { Change } from "../../../../live/src/mirror/table" */
/** @import { Column } from "./grid.js" */
/** @import { Skipped } from "./parts.js" */
/** @import { LayersView } from "./view.js" */

/** Changes that come one by one. */
export class ChangesView {
  status = make("p", { class: "status", role: "status" }, "Reading …");
  /** @type {Skipped[]} */
  skipped = [];
  /** @type {Change[]} */
  rows = [];
  #figure = make("figure");
  #grid = new Grid(changeColumns(), "Layers of both models");
  /** @type {Map<string, HTMLTableRowElement>} */
  #waiting = new Map();
  #view;

  /**
   * @param {LayersView} view
   * @param {string} title
   */
  constructor(view, title) {
    this.#view = view;
    view.changes = this;
    this.heading = make("h2", { tabindex: -1 }, title);
    view.comparison.hidden = false;
    view.comparison.replaceChildren(this.heading, this.status);
  }

  /** @param {string} message */
  fail(message) {
    complain(this.status, message);
  }

  /** Show the table, with a line for every layer that will come. */
  expect() {
    this.#view.comparison.append(this.#figure, make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Table of changes" }, this.#grid.element));
    this.#waiting = this.#view.waitingIn(this.#grid);
  }

  /** @param {Change | Skipped} outcome */
  take(outcome) {
    const line = this.#waiting.get(outcome.name) ?? null;
    if ("reason" in outcome) {
      this.skipped.push(outcome);
      line?.remove();
    } else {
      this.rows.push(outcome);
      this.#grid.set(outcome, line);
    }
  }

  /**
   * Say that no more rows come.
   * @param {readonly string[]} columns
   * @param {string} file
   * @param {(Node | string)[]} more
   */
  end(columns, file, more = []) {
    this.rows = this.#view.sorted(this.rows);
    this.draw();
    this.status.replaceChildren(`${this.rows.length} compared, ${this.skipped.length} left out. `, ...more);
    if (this.rows.length)
      this.status.after(make("div", { class: "offers" }, make("button", { type: "button", click: () => save(csv(columns, this.rows), `${file}-changes`) }, "Table as CSV")));
    this.#view.comparison.append(make("details", {}, make("summary", {}, `Left out: ${this.skipped.length}`), make("ul", {}, ...this.skipped.map(({ name, reason }) => make("li", {}, make("code", {}, name), ` ${reason}`)))));
  }

  draw() {
    if (!this.rows.length || !this.#view.width) return;
    this.#figure.replaceChildren(changes(this.rows, this.#view.width), keyOf([["from", "before, or the same"], ["heavier", "after, heavier"], ["lighter", "after, lighter"]]));
  }
}

/** @returns {Column<Change>[]} */
function changeColumns() {
  /** @type {(name: keyof Change & string, title: string, help: string) => Column<Change>} */
  const number = (name, title, help) => ({
    title, help, width: 8.5, value: (row) => /** @type {number} */ (row[name]), write: (row) => format(/** @type {number} */ (row[name])),
  });
  return [
    { title: "layer", help: "Name of the weight", text: true, width: 23, value: ({ name }) => name, write: ({ name }) => make("span", { class: "plain" }, name) },
    { title: "shape", help: "Shape of one matrix", width: 9, value: ({ shape: [h, d] }) => h * d, write: ({ shape }) => written(shape, 1) },
    number("relative_change", "change", "relative_change: Frobenius norm of the update over that of the weights before"),
    number("alpha_hill_before", "Hill α before", "alpha_hill_before"),
    number("alpha_hill_after", "after", "alpha_hill_after"),
    number("spectral_norm_before", "norm before", "spectral_norm_before"),
    number("spectral_norm_after", "after", "spectral_norm_after"),
    number("update_stable_rank", "update rank", "update_stable_rank: stable rank of the update"),
    number("update_n_spikes", "its spikes", "update_n_spikes: eigenvalues of the update beyond its noise; nothing where the rest is not noise"),
  ];
}
