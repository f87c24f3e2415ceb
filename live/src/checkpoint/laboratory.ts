// What the page shows of a file: progress, the picture of the model, one layer, the table, what was left out, a comparison.

import type { Skipped } from "../mirror/layers";
import { againstNull, CHANGES, COLUMNS } from "../mirror/columns";
import type { Replicates } from "../mirror/nulls";
import type { Change, Row } from "../mirror/table";
import type { Outcome } from "./analysis";
import type { Order } from "./analyst";
import worker from "./analyst?source";
import { changes, density, overview, tail, verdictClass } from "./charts";
import { bytes, format, make } from "./dom";
import { type Column, csv, Grid } from "./grid";
import { Pool } from "./pool";
import { quoted } from "./shell";
import { type Limits, type Listed, tasksOf } from "./tasks";

export interface Laboratory {
  analyse(files: readonly File[]): Promise<void>;
}

const LIMITS: Limits = { size: 4096, bytes: 2 ** 30 };
const MOST_WORKERS = 8;
const PAUSE = 150; // ms between two drawings: a row at a time would keep the page busy
const RATE = 6e7; // multiplications per ms of one worker, until they are measured

type Measured = { row: Row; eigenvalues: Float64Array };

const by = (name: keyof Row & string, title: string, help: string): Column<Measured> => ({
  title, help,
  value: ({ row }) => row[name] as number | string | undefined,
  write: ({ row }) => format(row[name] as number | undefined),
});

class Page implements Laboratory {
  private readonly address = URL.createObjectURL(new Blob([worker], { type: "text/javascript" }));
  private visit: Visit | null = null;

  constructor(private readonly place: HTMLElement) {}

  async analyse(files: readonly File[]): Promise<void> {
    this.visit?.stop();
    this.visit = new Visit(this.place, files, this.address);
    await this.visit.run();
  }
}

/** One model that is being looked at, in one file or in several. */
class Visit {
  private readonly pool: Pool;
  private readonly began = performance.now();
  private readonly rows: Measured[] = [];
  private readonly skipped: Skipped[] = [];
  private readonly nulls = new Map<string, Promise<Replicates | null>>();
  private listed: Listed[] = [];
  private chosen: Measured | null = null;
  private total = 0;
  private done = 0;
  /** Rows that are not in the table yet. */
  private readonly fresh: [Measured, HTMLTableRowElement | null][] = [];
  private waits = false;
  private width = 0;
  private open = true;

  private readonly bar = make("progress", { max: 1, value: 0, "aria-label": "Progress of the analysis" });
  private readonly status = make("p", { class: "status", role: "status" });
  private readonly cancel = make("button", { type: "button", click: () => this.end("Cancelled") }, "Cancel");
  private readonly model = make("figure", { class: "model", hidden: true });
  private readonly layer = make("section", { class: "layer", hidden: true, "aria-label": "The chosen layer" });
  private readonly table = make("section", { hidden: true });
  private readonly rest = make("div", { class: "rest" });
  private readonly comparison = make("section", { class: "comparison", hidden: true });
  private readonly grid: Grid<Measured>;

  constructor(
    private readonly place: HTMLElement,
    private readonly files: readonly File[],
    private readonly address: string,
  ) {
    const size = Math.max(1, Math.min(navigator.hardwareConcurrency || 2, MOST_WORKERS));
    this.pool = new Pool(this.address, size);
    this.grid = new Grid<Measured>(this.columns(), `The layers of ${this.name}`);
    const title = make("h2", { tabindex: -1 }, this.name, make("small", {}, ` ${bytes(files.reduce((sum, { size }) => sum + size, 0))}`));
    const head = make("div", { class: "progress" }, this.bar, this.cancel, this.status);
    place.replaceChildren(title, head, this.model, this.layer, this.table, this.rest, this.comparison);
    title.focus({ preventScroll: true });
    title.scrollIntoView({ block: "nearest" });
    this.width = place.clientWidth;
    // asking for the width later on would lay out the page each time
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === this.width) return;
      this.width = contentRect.width;
      this.later();
      if (this.chosen) setTimeout(() => this.look());
    }).observe(place);
  }

  private get name(): string {
    return named(this.files);
  }

  stop(): void {
    this.open = false;
    this.pool.stop();
  }

  async run(): Promise<void> {
    this.status.textContent = "Reading what the file says of itself …";
    const answer = await this.pool.open({ type: "open", files: this.files, limits: LIMITS });
    if (answer.type !== "open") return this.fail(answer.type === "refused" ? answer.message : "");
    this.listed = answer.listed;
    this.skipped.push(...this.listed.flatMap((one) => one.skipped));
    const tasks = tasksOf(this.listed);
    this.total = tasks.reduce((sum, task) => sum + this.workOf(task), 0);
    this.region();
    const waiting = this.waiting(this.grid);
    await Promise.all(tasks.map((task) => this.take(task, waiting)));
    if (this.open) this.end("Done");
  }

  private async take(task: number[], waiting: Map<string, HTMLTableRowElement>): Promise<void> {
    const answer = await this.pool.ask({ type: "measure", task });
    const names = task.map((index) => this.listed[index].name);
    const outcomes: Outcome[] =
      answer.type === "measure" ? answer.outcomes : names.map((name) => ({ name, reason: answer.type === "refused" ? answer.message : "" }));
    for (const outcome of outcomes) {
      if ("reason" in outcome) {
        this.skipped.push(outcome);
        waiting.get(outcome.name)?.remove();
        continue;
      }
      const noise = await this.nullOf(outcome.row);
      if (noise) Object.assign(outcome.row, againstNull(outcome.row, outcome.row.shape, outcome.row.n_matrices, noise));
      this.rows.push(outcome);
      this.fresh.push([outcome, waiting.get(outcome.row.name) ?? null]);
    }
    this.done += this.workOf(task);
    this.later();
  }

  private nullOf({ shape, n_matrices: count }: Row): Promise<Replicates | null> {
    const sides = [...shape].sort((a, b) => a - b) as [number, number];
    const key = [...sides, count].join(" ");
    let found = this.nulls.get(key);
    if (!found) {
      found = this.pool.ask({ type: "null", shape: sides, count }, true).then((answer) => (answer.type === "null" ? answer.replicates : null));
      this.nulls.set(key, found);
    }
    return found;
  }

  private workOf(task: number[]): number {
    return task.reduce((sum, index) => sum + this.listed[index].work, 1e6);
  }

  private fail(message: string): void {
    this.stop();
    this.bar.hidden = this.cancel.hidden = true;
    this.status.setAttribute("role", "alert");
    this.status.classList.add("error");
    this.status.textContent = message;
  }

  private end(word: string): void {
    if (!this.open) return;
    const focused = document.activeElement === this.cancel;
    this.open = false;
    if (word === "Cancelled") this.pool.stop();
    this.drawn();
    setTimeout(() => this.pictured());
    this.bar.hidden = this.cancel.hidden = true;
    for (const line of this.table.querySelectorAll("tr.waiting")) line.remove();
    const seconds = (performance.now() - this.began) / 1000;
    this.status.textContent = `${word} after ${format(seconds, 2)} s. ${this.rows.length} analysed, ${this.skipped.length} left out. ${closing(this.rows)}`;
    this.left();
    this.offers(word === "Done");
    if (focused) this.place.querySelector("h2")?.focus();
    this.place.dataset["settled"] = word.toLowerCase();
  }

  /** Draw soon, once for all that happens until then. */
  private later(): void {
    if (this.waits) return;
    this.waits = true;
    setTimeout(() => {
      this.waits = false;
      this.drawn();
      setTimeout(() => this.pictured()); // in a task of its own, so that none is long
    }, PAUSE);
  }

  private drawn(): void {
    for (const [row, line] of this.fresh.splice(0)) this.grid.set(row, line);
    if (this.open && this.total) {
      const share = this.done / this.total;
      this.bar.value = share;
      const passed = performance.now() - this.began;
      const left = share > 0.03 ? (passed / share) * (1 - share) : this.total / RATE;
      this.status.textContent = `${this.rows.length} of ${this.listed.reduce((n, { parts }) => n + parts.length, 0)} matrices, about ${format(Math.max(1, left / 1000), 1)} s left`;
    }
  }

  /** Draw the model, and the layer where the room for it has changed. */
  private pictured(): void {
    if (!this.rows.length) return;
    const order = this.inOrder();
    if (!this.chosen) setTimeout(() => this.choose(order[0]));
    this.model.hidden = false;
    const picture = overview(order.map(({ row }) => row), this.chosen?.row ?? null, this.width, (row) => this.choose(order.find((one) => one.row === row)!));
    this.model.replaceChildren(picture, keyOf([["heavier", "heavier than noise"], ["as", "as noise"], ["lighter", "lighter"], ["null", "noise of the same shape, ±3 sd"]]));
  }

  /** Add a line for every layer that the header names. */
  private waiting(grid: Grid<Measured> | Grid<Change>): Map<string, HTMLTableRowElement> {
    const parts = this.listed.flatMap(({ parts }) => parts);
    return new Map(parts.map(({ name, shape, count }) => [name, grid.waiting(name, written(shape, count))]));
  }

  /** Return the order of the file. */
  private placeOf(): (name: string) => number {
    const names = this.listed.flatMap((one) => (one.parts.length ? one.parts.map(({ name }) => name) : [one.name]));
    const places = new Map(names.map((name, i) => [name, i]));
    return (name) => places.get(name) ?? Infinity;
  }

  private inOrder(): Measured[] {
    const place = this.placeOf();
    return [...this.rows].sort((a, b) => place(a.row.name) - place(b.row.name));
  }

  private choose(one: Measured): void {
    if (this.chosen) {
      const before = this.grid.lineOf(this.chosen);
      before?.classList.remove("chosen");
      before?.querySelector("button")?.removeAttribute("aria-current");
    }
    this.chosen = one;
    const line = this.grid.lineOf(one);
    line?.classList.add("chosen");
    line?.querySelector("button")?.setAttribute("aria-current", "true");
    this.look();
    this.later();
  }

  /** Show the chosen layer. */
  private look(): void {
    const { row, eigenvalues } = this.chosen!;
    const each = this.width > 800 ? Math.floor((this.width - 16) / 2) : this.width; // as in the style sheet
    const second = make("figure", {}, keyOf([["points", "eigenvalues"], ["noise", "noise"], ["hill", `Hill ${format(row.alpha_hill, 3)}`], ["ks", `KS ${format(row.alpha_ks, 3)}`]]));
    setTimeout(() => second.prepend(tail(row, eigenvalues, each)));
    const fact = (name: string, value: string): HTMLElement => make("div", {}, make("dt", {}, name), make("dd", {}, value));
    const edges = row.has_bulk ? `${format(Math.sqrt(row.mp_variance))}; edge ${format(row.mp_edge)}` : "the rest is not noise";
    this.layer.hidden = false;
    this.layer.replaceChildren(
      make("h3", {}, row.name, make("small", {}, ` ${row.kind}, ${written(row.shape, row.n_matrices)}, ${row.dtype}`)),
      make("div", { class: "pair" },
        make("figure", {}, density(row, eigenvalues, each), keyOf([["bar", "eigenvalues"], ["noise", "noise of its shape and norm"], ...(row.has_bulk ? ([["bulk", "fitted bulk"]] as const) : []), ...(row.has_bulk && row.n_spikes ? ([["spike", "spikes"]] as const) : [])])),
        second,
      ),
      make("dl", {},
        fact("Hill α", `${format(row.alpha_hill)} (noise ${format(row.alpha_hill_null)}, z ${format(row.alpha_hill_z, 3)}): ${row.verdict || "undecided"}`),
        fact("KS α", `${format(row.alpha_ks)} ± ${format(row.alpha_error, 2)} above λ = ${format(row.ks_xmin)}, ${row.n_tail} values, distance ${format(row.ks_distance, 3)}`),
        fact("Bulk σ", edges),
        fact("Spikes", row.has_bulk ? String(row.n_spikes) : "no bulk, so they count nothing"),
        fact("Stable rank", `${format(row.stable_rank)} of ${row.rank}`),
      ),
    );
  }

  private columns(): Column<Measured>[] {
    return [
      {
        title: "layer", help: "Name of the weight; press it to see its spectrum", text: true, width: 21,
        value: ({ row }) => row.name,
        write: (one) => make("button", { type: "button", class: "name", click: () => this.choose(one) }, one.row.name),
      },
      by("alpha_hill", "Hill α", "alpha_hill: exponent of the upper half of the spectrum"),
      by("alpha_hill_null", "of noise", "alpha_hill_null: mean of alpha_hill over Gaussian noise of the same shape"),
      by("alpha_hill_z", "z", "alpha_hill_z: difference in standard deviations of the null"),
      {
        title: "verdict", help: "verdict: beyond three standard deviations of the null", text: true, width: 11.5,
        value: ({ row }) => row.verdict, write: ({ row }) => make("span", { class: `says ${verdictClass(row)}` }, row.verdict || "undecided"),
      },
      by("alpha_ks", "KS α", "alpha_ks: exponent above the threshold with the smallest KS distance"),
      {
        title: "bulk σ", help: "Square root of mp_variance: standard deviation of the noise in the fitted Marchenko-Pastur bulk",
        value: ({ row }) => (row.has_bulk ? Math.sqrt(row.mp_variance) : undefined), write: ({ row }) => (row.has_bulk ? format(Math.sqrt(row.mp_variance), 3) : "–"),
      },
      {
        title: "edge", help: "mp_edge: 99 % quantile of the largest eigenvalue of that noise",
        value: ({ row }) => (row.has_bulk ? row.mp_edge : undefined), write: ({ row }) => (row.has_bulk ? format(row.mp_edge) : "–"),
      },
      {
        title: "spikes", help: "n_spikes: eigenvalues beyond the edge; they count nothing where the rest is not noise",
        value: ({ row }) => (row.has_bulk ? row.n_spikes : undefined), write: ({ row }) => (row.has_bulk ? String(row.n_spikes) : "no bulk"),
      },
      by("stable_rank", "stable rank", "stable_rank: squared Frobenius norm over squared spectral norm"),
      by("spectral_norm", "norm", "spectral_norm: largest singular value"),
      { title: "kind", help: "What the weight is", text: true, width: 5.5, value: ({ row }) => row.kind, write: ({ row }) => row.kind },
      {
        title: "shape", help: "Shape of one matrix, and how many are pooled", width: 9,
        value: ({ row }) => row.shape[0] * row.shape[1] * row.n_matrices, write: ({ row }) => written(row.shape, row.n_matrices),
      },
    ];
  }

  private region(): void {
    const scroll = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Table of layers" }, this.grid.element);
    this.table.hidden = false;
    this.table.replaceChildren(scroll);
  }

  /** List what was left out, by reason. */
  private left(): void {
    const reasons = new Map<string, string[]>();
    for (const { name, reason } of this.skipped) reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
    const large = [...reasons].filter(([reason]) => reason.includes("too large for this page"));
    const commands = large.map(([reason, names]) => make("li", {}, make("code", {}, reason.split(": ").slice(1).join(": ")), ` ${names[0]}, ${reason.split(" is ")[0]}`));
    const items = [...reasons].filter(([reason]) => !reason.includes("too large")).map(([reason, names]) =>
      make("li", {}, `${reason}: `, ...names.slice(0, 6).flatMap((name, i) => [i ? ", " : "", make("code", {}, name)]), names.length > 6 ? ` and ${names.length - 6} more` : ""),
    );
    this.rest.replaceChildren(
      ...(commands.length ? [make("h3", {}, "Too large for this page"), make("p", {}, "On your machine, these commands do them:"), make("ul", {}, ...commands)] : []),
      ...(items.length ? [make("details", {}, make("summary", {}, `Left out: ${this.skipped.length - large.length}, each with its reason`), make("ul", {}, ...items))] : []),
    );
  }

  /** Offer what can be done with a finished analysis. */
  private offers(complete: boolean): void {
    const offers = make("div", { class: "offers" });
    if (this.rows.length)
      offers.append(make("button", { type: "button", click: () => save(csv(COLUMNS, this.inOrder().map(({ row }) => row)), this.files[0].name, "spectra") }, "Table as CSV"));
    if (complete && this.rows.length) {
      const input = make("input", { type: "file", multiple: true, accept: ".safetensors,.npz,.pt,.pth,.bin", class: "hidden", tabindex: -1, "aria-hidden": "true" });
      input.addEventListener("change", () => {
        const files = [...(input.files ?? [])];
        if (files.length) void this.compare(files);
        input.value = "";
      });
      offers.append(make("button", { type: "button", class: "compare", click: () => input.click() }, "Compare with a later checkpoint"), input);
    }
    this.status.after(offers);
  }

  private async compare(files: readonly File[]): Promise<void> {
    const status = make("p", { class: "status", role: "status" }, "Reading …");
    const title = make("h2", { tabindex: -1 }, `What changed: ${this.name} to ${named(files)}`);
    this.comparison.hidden = false;
    this.comparison.replaceChildren(title, status);
    title.focus({ preventScroll: true });
    title.scrollIntoView({ block: "nearest" });
    const answer = await this.pool.open({ type: "open other", files, limits: LIMITS });
    if (answer.type !== "open") {
      status.setAttribute("role", "alert");
      status.classList.add("error");
      status.textContent = answer.type === "refused" ? answer.message : "";
      return;
    }
    const figure = make("figure");
    const grid = new Grid<Change>(changeColumns(), "Layers of both files");
    const skipped: Skipped[] = [...answer.others];
    const rows: Change[] = [];
    const tasks = tasksOf(this.listed);
    let done = 0;
    this.comparison.append(figure, make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Table of changes" }, grid.element));
    const waiting = this.waiting(grid);
    await Promise.all(tasks.map(async (task) => {
      const reply = await this.pool.ask({ type: "compare", task } satisfies Order);
      done++;
      status.textContent = `${done} of ${tasks.length} tensors`;
      if (reply.type !== "compare") return;
      for (const outcome of reply.outcomes) {
        const line = waiting.get(outcome.name) ?? null;
        if ("reason" in outcome) {
          skipped.push(outcome);
          line?.remove();
        } else {
          rows.push(outcome);
          grid.set(outcome, line);
        }
      }
    }));
    const place = this.placeOf();
    rows.sort((a, b) => place(a.name) - place(b.name));
    if (rows.length) figure.append(changes(rows, this.width), keyOf([["from", "before, or the same"], ["heavier", "after, heavier"], ["lighter", "after, lighter"]]));
    const command = `htlib analyze ${quoted(this.files[0].name)} --against ${quoted(files[0].name)}`;
    status.replaceChildren(`${rows.length} compared, ${skipped.length} left out. For the overlaps of singular vectors: `, make("code", {}, command));
    status.after(make("div", { class: "offers" }, make("button", { type: "button", click: () => save(csv(CHANGES, rows), files[0].name, "changes") }, "Table as CSV")));
    this.comparison.append(make("details", {}, make("summary", {}, `Left out: ${skipped.length}`), make("ul", {}, ...skipped.map(({ name, reason }) => make("li", {}, make("code", {}, name), ` ${reason}`)))));
    this.place.dataset["settled"] = "compared";
  }
}

function changeColumns(): Column<Change>[] {
  const number = (name: keyof Change & string, title: string, help: string): Column<Change> => ({
    title, help, width: 8.5, value: (row) => row[name] as number, write: (row) => format(row[name] as number),
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

/** Say how many layers have heavier tails than noise, as `htlib analyze` does. */
function closing(rows: readonly Measured[]): string {
  if (!rows.length) return "";
  const parts = ["heavier than noise", "as noise", "lighter than noise", ""].flatMap((verdict) => {
    const count = rows.filter(({ row }) => (row.verdict ?? "") === verdict).length;
    return count ? [`${count} ${verdict || "undecided"}`] : [];
  });
  const without = rows.filter(({ row }) => !row.has_bulk).length;
  const bulk = without ? `; ${without} of ${rows.length} have no Marchenko-Pastur bulk` : "";
  return `By PL_Alpha_Hill, of ${rows.length} spectra: ${parts.join(", ")}${bulk}.`;
}

function keyOf(entries: readonly (readonly [string, string])[]): HTMLElement {
  return make("figcaption", { class: "key" }, ...entries.map(([name, text]) => make("span", {}, make("i", { class: `swatch ${name}` }), text)));
}

const named = (files: readonly File[]): string => (files.length > 1 ? `${files[0].name} and ${files.length - 1} more` : files[0].name);
const written = ([h, d]: readonly [number, number], count: number): string => `${count > 1 ? `${count} × ` : ""}${h} × ${d}`;

function save(text: string, name: string, what: string): void {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: `${name.replace(/\.[^.]*$/, "")}-${what}.csv` });
  link.click();
  URL.revokeObjectURL(link.href);
}

window.htlibLaboratory = (place) => new Page(place);
