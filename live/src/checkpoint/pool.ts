// Workers that take orders from one queue.

import type { Order, Reply } from "./analyst";

type Waiting = { order: Order; settle: (answer: Reply) => void };

const MOST_LOST = 20; // workers; then none will start

interface Place {
  worker: Worker;
  doing: Waiting | null;
}

export class Pool {
  private readonly places: Place[];
  private readonly queue: Waiting[] = [];
  private readonly opening: Order[] = [];
  private stopped = false;
  private lost = 0;

  constructor(
    private readonly address: string,
    size: number,
  ) {
    this.places = Array.from({ length: size }, () => this.place());
  }

  /** Give every worker an order that opens a file, and return the first answer. */
  async open(order: Order): Promise<Reply> {
    this.opening.push(order);
    const [first] = await Promise.all(
      this.places.map((place) => new Promise<Reply>((settle) => this.give(place, { order, settle }))),
    );
    return first;
  }

  /** Queue an order, at the front if it is `urgent`.  After `stop` nothing settles any more. */
  ask(order: Order, urgent = false): Promise<Reply> {
    return new Promise((settle) => {
      if (urgent) this.queue.unshift({ order, settle });
      else this.queue.push({ order, settle });
      this.next();
    });
  }

  stop(): void {
    this.stopped = true;
    this.queue.length = 0;
    for (const { worker } of this.places) worker.terminate();
  }

  private place(): Place {
    const place: Place = { worker: new Worker(this.address), doing: null };
    place.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.settle(place, data);
    place.worker.onerror = (event) => {
      event.preventDefault();
      this.replace(place, event.message || "the worker could not start");
    };
    return place;
  }

  private give(place: Place, waiting: Waiting): void {
    place.doing = waiting;
    place.worker.postMessage(waiting.order);
  }

  private settle(place: Place, answer: Reply): void {
    const { doing } = place;
    place.doing = null;
    doing?.settle(answer);
    this.next();
  }

  /** A worker that broke down, for want of memory for example, costs only the task that it was at. */
  private replace(place: Place, reason: string): void {
    if (this.stopped) return;
    place.worker.terminate();
    const { doing } = place;
    const answer: Reply = { type: "refused", message: `the browser gave up on it: ${reason}` };
    if (++this.lost > MOST_LOST) {
      const left = [...this.places.flatMap((one) => one.doing ?? []), ...this.queue];
      this.stop();
      for (const { settle } of left) settle(answer);
      return;
    }
    const fresh = this.place();
    this.places[this.places.indexOf(place)] = fresh;
    doing?.settle(answer);
    if (doing && this.opening.includes(doing.order)) return; // it would break down again
    const orders = [...this.opening];
    const again = (): void => {
      const order = orders.shift();
      if (order) this.give(fresh, { order, settle: again });
      else this.next();
    };
    again();
  }

  private next(): void {
    for (const place of this.places) {
      if (place.doing || !this.queue.length || this.stopped) continue;
      this.give(place, this.queue.shift()!);
    }
  }
}
