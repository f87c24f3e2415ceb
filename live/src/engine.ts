// The explorer's engine in a page without a kernel.  It shows stored runs at once, and a worker trains on request.

import { lawOf, type Meta } from "./meta";
import { Refusal, refuse } from "./mirror/bounds";
import { oneStep } from "./mirror/one_step";
import type { Engine, Message, Settings } from "./protocol";
import { withRemedy } from "./remedy";
import { configOf, find, rateMap, read, snapshots, type StoredRuns } from "./stored_runs";
import type { Order } from "./worker";

export class BrowserEngine implements Engine {
  private id = 0;
  private readonly hearers = new Set<(message: Message) => void>();
  private worker: Worker | null = null;
  /** Whether the worker has its files. */
  private loaded = false;
  private stored: Promise<StoredRuns> | null = null;
  private stop = new AbortController();
  /** The request that waits for the stored runs. */
  private looked: number | null = null;
  /** The request that the worker has not finished. */
  private trained: number | null = null;

  constructor(
    private readonly base: URL,
    private readonly meta: Meta,
  ) {}

  request(settings: Settings, train = false): number {
    const id = ++this.id;
    if (train) this.train(id, settings);
    else {
      if (this.trained !== null) this.cancel(this.trained);
      void this.look(id, settings);
    }
    return id;
  }

  /** End a request; one that still loads files ends at once, and the next request loads them again. */
  cancel(id: number): void {
    const cancelled = { id, type: "cancelled", step: null, message: null } as const;
    if (id === this.looked) {
      this.stop.abort();
      this.stored = this.looked = null;
      this.tell(cancelled);
    } else if (id === this.trained && this.loaded) this.order({ type: "cancel", id });
    else if (id === this.trained) {
      this.worker?.terminate();
      this.worker = null;
      this.tell(cancelled);
    }
  }

  onMessage(callback: (message: Message) => void): () => void {
    this.hearers.add(callback);
    return () => this.hearers.delete(callback);
  }

  private tell(message: Message): void {
    if (message.type !== "progress" && message.type !== "start" && message.type !== "snapshots" && message.id === this.trained)
      this.trained = null;
    for (const hear of this.hearers) hear(message);
  }

  private train(id: number, settings: Settings): void {
    this.trained = id;
    try {
      this.order({ type: "request", id, settings });
    } catch (error) {
      this.lose(error);
    }
  }

  private order(order: Order): void {
    if (!this.worker) {
      this.worker = new Worker(new URL("worker.js", this.base), { type: "module" });
      this.loaded = false;
      this.worker.onmessage = ({ data }: MessageEvent<Message>) => {
        this.loaded ||= data.type === "snapshots" || (data.type === "progress" && data.phase !== "load");
        this.tell(data);
      };
      this.worker.onerror = (event) => {
        event.preventDefault();
        this.lose(event.message || "worker.js could not be loaded");
      };
    }
    this.worker.postMessage(order);
  }

  /** Give up on a worker; the next request tries a new one. */
  private lose(reason: unknown): void {
    this.worker?.terminate();
    this.worker = null;
    const message = withRemedy(reason instanceof Error ? reason.message : String(reason));
    if (this.trained !== null) this.tell({ id: this.trained, type: "error", step: null, message });
  }

  /** Answer from the stored runs. */
  private async look(id: number, settings: Settings): Promise<void> {
    this.looked = id;
    try {
      const stored = await (this.stored ??= this.fetchRuns());
      if (this.looked !== id) return;
      this.looked = null;
      refuse(settings, this.meta); // after the await: before it, the caller does not have the id yet
      this.answer(id, settings, stored);
    } catch (error) {
      if (this.stop.signal.aborted) return;
      let message = error instanceof Error ? error.message : String(error);
      if (!(error instanceof Refusal)) {
        this.stored = null;
        message = `the stored runs cannot be read: ${message}`;
      }
      this.tell({ id, type: "error", step: null, message });
    }
  }

  private async fetchRuns(): Promise<StoredRuns> {
    const url = new URL("stored-runs.json.gz", this.base);
    this.stop = new AbortController();
    const response = await fetch(url, { signal: this.stop.signal });
    if (!response.ok) throw new Error(`${url.pathname} is missing (${response.status})`);
    return read(await response.arrayBuffer());
  }

  private answer(id: number, settings: Settings, stored: StoredRuns): void {
    const { noise, sizes } = this.meta.stored;
    const run = find(stored, settings);
    if (typeof run === "string") return this.tell({ id, type: "absent", step: null, message: run });
    const config = { ...configOf(stored, run, settings.steps), ...sizes };
    const seeds = new Set(stored.runs.map(({ seed }) => seed)).size;
    this.tell({
      id, type: "start", config, noise, source: "stored",
      map: rateMap(stored, run, settings.steps, "spectral_norm"),
      prediction: oneStep(lawOf(this.meta.stored, config), config),
      note: `A stored run: rate ${config.lr}, n = ${sizes.n}, d = ${sizes.d}, h = ${sizes.h}. Bands: all ${seeds} seeds. ` +
        `Eigenvalues in bins of ${1 / stored.bins_per_decade} decades, the largest to ${stored.largest_digits} digits.`,
    });
    this.tell({ id, type: "snapshots", snapshots: snapshots(stored, run, settings.steps) });
    const diverged = run.diverged_at;
    if (diverged !== null && diverged <= settings.steps) this.tell({ id, type: "diverged", step: diverged, message: null });
    else this.tell({ id, type: "done", step: settings.steps, message: null });
  }
}

