// The measures of a file, by workers, for the view of layers that the page shares with Jupyter.

import { ChangesView } from "../../../htlib/explorer/static/layers/changes.js";
import { format, make } from "../../../htlib/explorer/static/layers/elements.js";
import { LayersView } from "../../../htlib/explorer/static/layers/view.js";
import { againstNull, CHANGES, COLUMNS } from "../mirror/columns";
import type { Replicates } from "../mirror/nulls";
import type { Row } from "../mirror/table";
import type { Outcome } from "./analysis";
import worker from "./analyst?source";
import { Pool } from "./pool";
import { quoted } from "./shell";
import { type Limits, type Listed, tasksOf } from "./tasks";

export interface Laboratory {
  analyse(files: readonly File[]): Promise<void>;
}

const LIMITS: Limits = { size: 4096, bytes: 2 ** 30 };
const MOST_WORKERS = 8;
const RATE = 6e7; // multiplications per ms of one worker, until they are measured

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
  private readonly spectra = new Map<Row, Float64Array>();
  private readonly nulls = new Map<string, Promise<Replicates | null>>();
  private listed: Listed[] = [];
  private total = 0;
  private done = 0;
  private open = true;

  private readonly bar = make("progress", { max: 1, value: 0, "aria-label": "Progress of the analysis" });
  private readonly cancel = make("button", { type: "button", click: () => this.end("Cancelled") }, "Cancel");
  private readonly view: LayersView;

  constructor(
    private readonly place: HTMLElement,
    private readonly files: readonly File[],
    address: string,
  ) {
    const size = Math.max(1, Math.min(navigator.hardwareConcurrency || 2, MOST_WORKERS));
    this.pool = new Pool(address, size);
    this.view = new LayersView(place, {
      title: named(files),
      detail: bytes(files.reduce((sum, { size }) => sum + size, 0)),
      file: stem(files[0]),
      columns: COLUMNS,
      spectrum: (row) => this.spectra.get(row)!,
      said: () => this.said(),
    });
    this.view.head.prepend(this.bar, this.cancel);
    shown(this.view.heading, "nearest");
  }

  stop(): void {
    this.open = false;
    this.pool.stop();
    this.view.close();
  }

  async run(): Promise<void> {
    this.view.status.textContent = "Reading what the file says of itself …";
    const answer = await this.pool.open({ type: "open", files: this.files, limits: LIMITS });
    if (answer.type !== "open") return this.fail(answer.type === "refused" ? answer.message : "");
    this.listed = answer.listed;
    const tasks = tasksOf(this.listed);
    this.total = tasks.reduce((sum, task) => sum + this.workOf(task), 0);
    const order = this.listed.flatMap((one) => (one.parts.length ? one.parts.map(({ name }) => name) : [one.name]));
    this.view.expect(this.listed.flatMap(({ parts }) => parts), order);
    for (const one of this.listed.flatMap(({ skipped }) => skipped)) this.view.skip(one);
    await Promise.all(tasks.map((task) => this.take(task)));
    if (this.open) this.end("Done");
  }

  private async take(task: number[]): Promise<void> {
    const answer = await this.pool.ask({ type: "measure", task });
    const names = task.map((index) => this.listed[index].name);
    const outcomes: Outcome[] =
      answer.type === "measure" ? answer.outcomes : names.map((name) => ({ name, reason: answer.type === "refused" ? answer.message : "" }));
    for (const outcome of outcomes) {
      if ("reason" in outcome) {
        this.view.skip(outcome);
        continue;
      }
      const { row, eigenvalues } = outcome;
      const noise = await this.nullOf(row);
      if (noise) Object.assign(row, againstNull(row, row.shape, row.n_matrices, noise));
      this.spectra.set(row, eigenvalues);
      this.view.add(row);
    }
    this.done += this.workOf(task);
    this.view.later();
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
    this.pool.stop();
    this.bar.hidden = this.cancel.hidden = true;
    this.view.fail(message);
  }

  private end(word: string): void {
    if (!this.open) return;
    const focused = document.activeElement === this.cancel;
    this.open = false;
    if (word === "Cancelled") this.pool.stop();
    this.bar.hidden = this.cancel.hidden = true;
    this.view.end(`${word} after ${format((performance.now() - this.began) / 1000, 2)} s. `);
    if (word === "Done" && this.view.rows.length) this.offerComparison();
    if (focused) this.view.heading.focus();
    this.place.dataset["settled"] = word.toLowerCase();
  }

  /** Move the bar, and return what is done and how long the rest will take. */
  private said(): string {
    if (!this.total) return this.view.status.textContent ?? "";
    const share = this.done / this.total;
    this.bar.value = share;
    const passed = performance.now() - this.began;
    const left = share > 0.03 ? (passed / share) * (1 - share) : this.total / RATE;
    return `${this.view.rows.length} of ${this.listed.reduce((n, { parts }) => n + parts.length, 0)} matrices, about ${format(Math.max(1, left / 1000), 1)} s left`;
  }

  private offerComparison(): void {
    const input = make("input", { type: "file", multiple: true, accept: ".safetensors,.npz,.pt,.pth,.bin", class: "hidden", tabindex: -1, "aria-hidden": "true" });
    input.addEventListener("change", () => {
      const files = [...(input.files ?? [])];
      if (files.length) void this.compare(files);
      input.value = "";
    });
    this.view.offers.append(make("button", { type: "button", class: "compare", click: () => input.click() }, "Compare with a later checkpoint"), input);
  }

  private async compare(files: readonly File[]): Promise<void> {
    const changes = new ChangesView(this.view, `What changed: ${named(this.files)} to ${named(files)}`);
    shown(changes.heading, "start");
    const answer = await this.pool.open({ type: "open other", files, limits: LIMITS });
    if (answer.type !== "open") return changes.fail(answer.type === "refused" ? answer.message : "");
    changes.expect();
    for (const other of answer.others) changes.take(other);
    const tasks = tasksOf(this.listed);
    let done = 0;
    await Promise.all(tasks.map(async (task) => {
      const reply = await this.pool.ask({ type: "compare", task });
      done++;
      changes.status.textContent = `${done} of ${tasks.length} tensors`;
      if (reply.type === "compare") for (const outcome of reply.outcomes) changes.take(outcome);
    }));
    const command = `htlib analyze ${quoted(this.files[0].name)} --against ${quoted(files[0].name)}`;
    changes.end(CHANGES, stem(files[0]), ["For the overlaps of singular vectors: ", make("code", {}, command)]);
    this.place.dataset["settled"] = "compared";
  }
}

/** Bring a heading into view. */
function shown(heading: HTMLElement, block: ScrollLogicalPosition): void {
  heading.focus({ preventScroll: true });
  heading.scrollIntoView({ block });
}

const named = (files: readonly File[]): string => (files.length > 1 ? `${files[0].name} and ${files.length - 1} more` : files[0].name);
const stem = ({ name }: File): string => name.replace(/\.[^.]*$/, "");

function bytes(count: number): string {
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  for (; count >= 1000 && unit < 3; unit++) count /= 1000;
  return `${Number(count.toPrecision(3))} ${units[unit]}`;
}

window.htlibLaboratory = (place) => new Page(place);
