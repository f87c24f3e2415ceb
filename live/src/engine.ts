// The explorer's engine in a page without a kernel: stored runs at once, and a worker that trains on request.

import { Atlas } from "./atlas";
import { Refusal, refuse } from "./bounds";
import { predict } from "./law";
import { lawKey, type Meta } from "./meta";
import type { Engine, Message, Settings } from "./protocol";
import type { Order } from "./worker";

export class BrowserEngine implements Engine {
  private id = 0;
  private readonly hearers = new Set<(message: Message) => void>();
  private worker: Worker | null = null;
  private atlas: Promise<Atlas> | null = null;
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

  cancel(id: number): void {
    if (id === this.trained) this.order({ type: "cancel", id });
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
      this.worker.onmessage = (event: MessageEvent<Message>) => this.tell(event.data);
      this.worker.onerror = (event) => {
        event.preventDefault();
        this.lose(event.message || "it could not be loaded");
      };
    }
    this.worker.postMessage(order);
  }

  /** Give up on a worker; the next request tries a new one. */
  private lose(reason: unknown): void {
    this.worker?.terminate();
    this.worker = null;
    const message = `the engine that trains cannot run: ${reason instanceof Error ? reason.message : String(reason)}`;
    if (this.trained !== null) this.tell({ id: this.trained, type: "error", step: null, message });
  }

  /** Answer from the stored runs. */
  private async look(id: number, settings: Settings): Promise<void> {
    try {
      const atlas = await (this.atlas ??= readAtlas(new URL("atlas.bin", this.base)));
      refuse(settings, this.meta); // not before: nobody listens for an id that has not been given yet
      this.answer(id, settings, atlas);
    } catch (error) {
      let message = error instanceof Error ? error.message : String(error);
      if (!(error instanceof Refusal)) {
        this.atlas = null;
        message = `the stored runs cannot be read: ${message}`;
      }
      this.tell({ id, type: "error", step: null, message });
    }
  }

  private answer(id: number, settings: Settings, atlas: Atlas): void {
    const { noise, laws, sizes } = this.meta.stored;
    const place = atlas.find(settings);
    if (typeof place === "string") return this.tell({ id, type: "absent", step: null, message: place });
    const config = { ...atlas.config(place, settings.steps), ...sizes };
    const law = laws[lawKey(config)];
    const diverged = atlas.divergedAt(place);
    const map = atlas.map(config.optimizer, config.labels, settings.steps, "spectral_norm");
    this.tell({
      id, type: "start", config, noise, map, source: "atlas",
      prediction: law ? predict(law, config.lr) : null,
      note: `A stored run: rate ${config.lr}, n = ${sizes.n}, d = ${sizes.d}, h = ${sizes.h}. ` +
        `Bands: all ${atlas.header.seeds.length} seeds. Eigenvalues to ${(100 * atlas.header.eigenvalue_error).toPrecision(2)} %.`,
    });
    this.tell({ id, type: "snapshots", snapshots: atlas.snapshots(place, settings.steps) });
    if (diverged !== null && diverged <= settings.steps) this.tell({ id, type: "diverged", step: diverged, message: null });
    else this.tell({ id, type: "done", step: settings.steps, message: null });
  }
}

async function readAtlas(url: URL): Promise<Atlas> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} is missing (${response.status})`);
  return Atlas.read(await response.arrayBuffer());
}
