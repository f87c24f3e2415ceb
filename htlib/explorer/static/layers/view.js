// @ts-check
// What a reader sees of a model: its picture, one layer, the table, and what was left out.  Whoever measures the
// layers, workers of a page or a kernel, hands over rows and, when one is chosen, its eigenvalues.

import { density, overview, tail, verdictClass } from "./charts.js";
import { format, make } from "./elements.js";
import { csv, Grid } from "./grid.js";
import { complain, keyOf, save, written } from "./parts.js";

/** @import { Row } from "../../../../live/src/mirror/table" */
/** @import { ChangesView } from "./changes.js" */
/** @import { Column } from "./grid.js" */
/** @import { Skipped } from "./parts.js" */
/** @typedef {{ name: string, shape: readonly [number, number], count: number }} Part */
/** @typedef {Float64Array | null} Spectrum */
/**
 * `file` begins the names of files that are saved; `noise` says what layers are compared with, null without a null;
 * `spectrum` gives the eigenvalues of a row, null where they are not all known; `said` is the status while rows come.
 * @typedef {{
 *   title: string, detail?: string, file: string, columns: readonly string[], noise?: string | null,
 *   spectrum: (row: Row) => Spectrum | Promise<Spectrum>, said?: () => string,
 * }} Options
 */

const PAUSE = 150; // ms between two drawings: a row at a time would keep the page busy
const BATCH = 60; // rows of one drawing, so that it is no long task
const SHAPE = "noise of the same shape";

/** A model whose rows come one by one. */
export class LayersView {
  /** @type {Row[]} */
  rows = [];
  /** @type {Skipped[]} */
  skipped = [];
  width = 0;
  head = make("div", { class: "progress" });
  status = make("p", { class: "status", role: "status" });
  offers = make("div", { class: "offers" });
  comparison = make("section", { class: "comparison", hidden: true });
  /** @type {ChangesView | null} */
  changes = null;

  #model = make("figure", { class: "model", hidden: true });
  #layer = make("section", { class: "layer", hidden: true, "aria-label": "The chosen layer" });
  #table = make("section", { hidden: true });
  #rest = make("div", { class: "rest" });
  /** @type {Part[]} */
  #parts = [];
  /** @type {Map<string, number>} */
  #places = new Map();
  /** @type {Map<string, HTMLTableRowElement>} */
  #waiting = new Map();
  /** @type {Row[]} Rows that are not in the table yet. */
  #fresh = [];
  /** @type {Row | null} */
  #chosen = null;
  #waits = false;
  #open = true;
  /** @type {Grid<Row>} */
  #grid;
  #observer;

  /**
   * @param {HTMLElement} place
   * @param {Options} options
   */
  constructor(place, options) {
    const { title, detail, noise = SHAPE } = options;
    this.options = { ...options, noise };
    this.place = place;
    this.#grid = new Grid(this.#columns(), `The layers of ${title}`);
    this.heading = make("h2", { tabindex: -1 }, title, ...(detail ? [make("small", {}, ` ${detail}`)] : []));
    this.head.append(this.status);
    place.classList.add("htlib-layers");
    place.replaceChildren(this.heading, this.head, this.#model, this.#layer, this.#table, this.#rest, this.comparison);
    this.width = place.clientWidth;
    // asking for the width later on would lay out the page each time
    this.#observer = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === this.width) return;
      this.width = contentRect.width;
      this.later();
      setTimeout(() => {
        this.#look();
        this.changes?.draw();
      });
    });
    this.#observer.observe(place);
  }

  /** Leave the place. */
  close() {
    this.#open = false;
    this.#observer.disconnect();
  }

  /**
   * Show the table, with a line for every layer that will come, if they are known; `order` is that of all names.
   * @param {Part[]} parts
   * @param {string[]} order
   */
  expect(parts = [], order = []) {
    this.#parts = parts;
    this.#places = new Map(order.map((name, i) => [name, i]));
    this.#waiting = this.waitingIn(this.#grid);
    this.#table.hidden = false;
    this.#table.replaceChildren(make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Table of layers" }, this.#grid.element));
  }

  /**
   * Add a line for every layer that will come.
   * @param {{ waiting: (name: string, shape: string) => HTMLTableRowElement }} grid
   */
  waitingIn(grid) {
    return new Map(this.#parts.map(({ name, shape, count }) => [name, grid.waiting(name, written(shape, count))]));
  }

  /** @param {Row} row */
  add(row) {
    this.rows.push(row);
    this.#fresh.push(row);
    this.later();
  }

  /** @param {Skipped} outcome */
  skip(outcome) {
    this.skipped.push(outcome);
    this.#waiting.get(outcome.name)?.remove();
  }

  /** @param {string} message */
  fail(message) {
    this.#open = false;
    complain(this.status, message);
  }

  /**
   * Say that no more rows come.
   * @param {string} begin
   */
  end(begin = "") {
    if (!this.#open) return;
    this.#open = false;
    this.#drawn();
    setTimeout(() => this.#pictured());
    const due = new Set(this.#fresh.map(({ name }) => this.#waiting.get(name)));
    for (const line of this.#waiting.values()) if (line.matches(".waiting") && !due.has(line)) line.remove();
    const { length } = this.rows;
    this.#table.hidden = !length;
    const none = "No weight matrix to measure: see what was left out, and why.";
    this.status.textContent = `${begin}${length} analysed, ${this.skipped.length} left out. ${length ? closing(this.rows, this.options.noise) : none}`;
    this.#left();
    if (length) {
      const { columns, file } = this.options;
      this.offers.append(make("button", { type: "button", click: () => save(csv(columns, this.#inOrder()), `${file}-spectra`) }, "Table as CSV"));
    }
    this.status.after(this.offers);
  }

  /** Draw soon, once for all that happens until then. */
  later() {
    if (this.#waits) return;
    this.#waits = true;
    setTimeout(() => {
      this.#waits = false;
      this.#drawn();
      setTimeout(() => this.#pictured()); // in a task of its own, so that none is long
    }, PAUSE);
  }

  /**
   * Sort by the order of the model.
   * @template {{ name: string }} T
   * @param {readonly T[]} rows
   */
  sorted(rows) {
    const place = (/** @type {T} */ { name }) => this.#places.get(name) ?? Infinity;
    return [...rows].sort((a, b) => place(a) - place(b) || 0);
  }

  #inOrder() {
    return this.sorted(this.rows);
  }

  #drawn() {
    for (const row of this.#fresh.splice(0, BATCH)) this.#grid.set(row, this.#waiting.get(row.name) ?? null);
    if (this.#fresh.length) requestAnimationFrame(() => this.#drawn());
    if (this.#open && this.options.said) this.status.textContent = this.options.said();
  }

  /** Draw the model, and choose its first layer. */
  #pictured() {
    if (!this.rows.length || !this.width) return;
    const order = this.#inOrder();
    if (!this.#chosen) setTimeout(() => this.#choose(order[0]));
    const { noise } = this.options;
    const picture = overview(order, this.#chosen, this.width, (row) => this.#choose(row), noise);
    const compared = /** @type {const} */ ([["heavier", "heavier than noise"], ["as", "as noise"], ["lighter", "lighter"], ["null", `${noise}, ±3 sd`]]);
    this.#model.hidden = false;
    this.#model.replaceChildren(picture, keyOf(noise ? compared : [["as", "a layer"]]));
  }

  /** @param {Row} row */
  #choose(row) {
    if (this.#chosen) {
      const before = this.#grid.lineOf(this.#chosen);
      before?.classList.remove("chosen");
      before?.querySelector("button")?.removeAttribute("aria-current");
    }
    this.#chosen = row;
    const line = this.#grid.lineOf(row);
    line?.classList.add("chosen");
    line?.querySelector("button")?.setAttribute("aria-current", "true");
    this.#look();
    this.later();
  }

  /**
   * Choose a layer, and bring it into view if its name is not: it is above the table.
   * @param {Row} row
   */
  #bring(row) {
    this.#choose(row);
    const { top } = this.#layer.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) this.#layer.scrollIntoView();
  }

  /** Show the chosen layer. */
  #look() {
    const row = this.#chosen;
    if (!row || !this.width) return;
    const noise = this.options.noise ? ` (noise ${format(row.alpha_hill_null)}, z ${format(row.alpha_hill_z, 3)}): ${row.verdict || "undecided"}` : "";
    /** @type {(name: string, value: string) => HTMLElement} */
    const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
    const none = Number.isFinite(row.mp_ks_distance) ? "the rest is not noise" : "no bulk could be fitted";
    const edges = row.has_bulk ? `${format(Math.sqrt(row.mp_variance))}; edge ${format(row.mp_edge)}` : none;
    const pair = make("div", { class: "pair" }, make("p", {}, "Waiting for the eigenvalues …"));
    this.#layer.hidden = false;
    this.#layer.replaceChildren(
      make("h3", {}, row.name, make("small", {}, ` ${row.kind}, ${written(row.shape, row.n_matrices)}, ${row.dtype}`)),
      pair,
      make("dl", {},
        fact("Hill α", `${format(row.alpha_hill)}${noise}`),
        fact("KS α", `${format(row.alpha_ks)} ± ${format(row.alpha_error, 2)} above λ = ${format(row.ks_xmin)}, ${row.n_tail} values, distance ${format(row.ks_distance, 3)}`),
        fact("Bulk σ", edges),
        fact("Spikes", row.has_bulk ? String(row.n_spikes) : "no bulk, so they count nothing"),
        fact("Stable rank", `${format(row.stable_rank)} of ${Number.isNaN(row.rank) ? "–" : row.rank}`),
      ),
    );
    void this.#draw(row, pair);
  }

  /**
   * @param {Row} row
   * @param {HTMLElement} pair
   */
  async #draw(row, pair) {
    const eigenvalues = await this.options.spectrum(row);
    if (!pair.isConnected) return; // another layer was chosen meanwhile
    if (!eigenvalues) {
      pair.replaceChildren(make("p", {}, "Only its largest eigenvalues were computed, so there is no spectrum to draw."));
      return;
    }
    const each = this.width > 800 ? Math.floor((this.width - 16) / 2) : this.width; // as in the style sheet
    const second = make("figure", {}, keyOf([["points", "eigenvalues"], ["noise", "noise"], ["hill", `Hill ${format(row.alpha_hill, 3)}`], ["ks", `KS ${format(row.alpha_ks, 3)}`]]));
    setTimeout(() => second.prepend(tail(row, eigenvalues, each)));
    /** @type {[string, string][]} */
    const key = [["bar", "eigenvalues"], ["noise", "noise of its shape and norm"]];
    if (row.has_bulk) key.push(["bulk", "fitted bulk"]);
    if (row.has_bulk && row.n_spikes) key.push(["spike", "spikes"]);
    pair.replaceChildren(make("figure", {}, density(row, eigenvalues, each), keyOf(key)), second);
  }

  /** @returns {Column<Row>[]} */
  #columns() {
    /** @type {(name: keyof Row & string, title: string, help: string) => Column<Row>} */
    const by = (name, title, help) => ({
      title, help,
      value: (row) => /** @type {number | string | undefined} */ (row[name]),
      write: (row) => format(/** @type {number | undefined} */ (row[name])),
    });
    const { noise } = this.options;
    return [
      {
        title: "layer", help: "Name of the weight; press it to see its spectrum", text: true, width: 21,
        value: (row) => row.name,
        write: (row) => make("button", { type: "button", class: "name", click: () => this.#bring(row) }, row.name),
      },
      by("alpha_hill", "Hill α", "alpha_hill: exponent of the upper half of the spectrum"),
      ...(noise ? [
        by("alpha_hill_null", "of noise", `alpha_hill_null: mean of alpha_hill over ${noise}`),
        {
          ...by("alpha_hill_z", "z", "alpha_hill_z: difference in standard deviations of the null; sorted by its size, the farthest from noise first"),
          value: (/** @type {Row} */ row) => Math.abs(row.alpha_hill_z ?? NaN),
        },
        {
          title: "verdict", help: "verdict: beyond three standard deviations of the null", text: true, width: 13,
          value: (/** @type {Row} */ row) => row.verdict, write: (/** @type {Row} */ row) => make("span", { class: `says ${verdictClass(row)}` }, row.verdict || "undecided"),
        },
      ] : []),
      by("alpha_ks", "KS α", "alpha_ks: exponent above the threshold with the smallest KS distance"),
      {
        title: "bulk σ", help: "Square root of mp_variance: standard deviation of the noise in the fitted Marchenko-Pastur bulk",
        value: (row) => (row.has_bulk ? Math.sqrt(row.mp_variance) : undefined), write: (row) => (row.has_bulk ? format(Math.sqrt(row.mp_variance), 3) : "–"),
      },
      {
        title: "edge", help: "mp_edge: 99 % quantile of the largest eigenvalue of that noise",
        value: (row) => (row.has_bulk ? row.mp_edge : undefined), write: (row) => (row.has_bulk ? format(row.mp_edge) : "–"),
      },
      {
        title: "spikes", help: "n_spikes: eigenvalues beyond the edge; they count nothing where the rest is not noise",
        value: (row) => (row.has_bulk ? row.n_spikes : undefined), write: (row) => (row.has_bulk ? String(row.n_spikes) : "no bulk"),
      },
      { ...by("stable_rank", "stable rank", "stable_rank: squared Frobenius norm over squared spectral norm"), width: 7.5 },
      by("spectral_norm", "norm", "spectral_norm: largest singular value"),
      { title: "kind", help: "What the weight is", text: true, width: 5.5, value: (row) => row.kind, write: (row) => row.kind },
      {
        title: "shape", help: "Shape of one matrix, and how many are pooled", width: 9,
        value: (row) => row.shape[0] * row.shape[1] * row.n_matrices, write: (row) => written(row.shape, row.n_matrices),
      },
    ];
  }

  /** List what was left out, by reason. */
  #left() {
    /** @type {Map<string, string[]>} */
    const reasons = new Map();
    for (const { name, reason } of this.skipped) reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
    // only a page has limits
    const large = [...reasons].filter(([reason]) => reason.includes("too large for this page"));
    const commands = large.map(([reason, names]) => make("li", {}, make("code", {}, reason.split(": ").slice(1).join(": ")), ` ${names[0]}, ${reason.split(" is ")[0]}`));
    const items = [...reasons].filter(([reason]) => !reason.includes("too large for this page")).map(([reason, names]) =>
      make("li", {}, `${reason}: `, ...names.slice(0, 6).flatMap((name, i) => [i ? ", " : "", make("code", {}, name)]), names.length > 6 ? ` and ${names.length - 6} more` : ""),
    );
    this.#rest.replaceChildren(
      ...(commands.length ? [make("h3", {}, "Too large for this page"), make("p", {}, "On your machine, these commands do them:"), make("ul", {}, ...commands)] : []),
      ...(items.length ? [make("details", { open: !this.rows.length }, make("summary", {}, `Left out: ${this.skipped.length - large.length}, each with its reason`), make("ul", {}, ...items))] : []),
    );
  }
}

/**
 * Say how many layers have heavier tails than noise, as `htlib analyze` does.
 * @param {readonly Row[]} rows
 * @param {string | null} noise
 */
function closing(rows, noise) {
  if (!noise) return "";
  const parts = ["heavier than noise", "as noise", "lighter than noise", ""].flatMap((verdict) => {
    const count = rows.filter((row) => (row.verdict || "") === verdict).length;
    return count ? [`${count} ${verdict || "undecided"}`] : [];
  });
  const without = rows.filter((row) => !row.has_bulk).length;
  const bulk = without ? `; ${without} of ${rows.length} have no Marchenko-Pastur bulk` : "";
  return `By PL_Alpha_Hill, of ${rows.length} spectra: ${parts.join(", ")}${bulk}.`;
}
