// Oracle: the order in which workers without anything behind them get their orders.

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Order, Reply } from "../../src/checkpoint/analyst";
import { Pool } from "../../src/checkpoint/pool";

class Fake {
  static all: Fake[] = [];
  readonly got: Order[] = [];
  ended = false;
  onmessage: ((event: { data: Reply }) => void) | null = null;
  onerror: ((event: { message: string; preventDefault: () => void }) => void) | null = null;
  constructor() {
    Fake.all.push(this);
  }
  postMessage(order: Order): void {
    this.got.push(order);
  }
  terminate(): void {
    this.ended = true;
  }
  answer(reply: Reply): void {
    this.onmessage!({ data: reply });
  }
  breakDown(): void {
    this.onerror!({ message: "out of memory", preventDefault: () => {} });
  }
}

const { Worker } = globalThis;
const opening: Order = { type: "open", files: [], limits: { size: 1, bytes: 1 } };
const opened: Reply = { type: "open", listed: [], others: [] };
const measure = (index: number): Order => ({ type: "measure", task: [index] });
const done: Reply = { type: "measure", outcomes: [] };

beforeEach(() => {
  Fake.all = [];
  globalThis.Worker = Fake as unknown as typeof Worker;
});
afterEach(() => {
  globalThis.Worker = Worker;
});

describe("Pool", () => {
  it("gives what is urgent first, and one order at a time to each worker", async () => {
    const pool = new Pool("", 1);
    const [worker] = Fake.all;
    const first = pool.ask(measure(0));
    void pool.ask(measure(1));
    void pool.ask({ type: "null", shape: [2, 3], count: 1 }, true);
    expect(worker.got).toEqual([measure(0)]);
    worker.answer(done);
    expect(await first).toBe(done);
    expect(worker.got.map(({ type }) => type)).toEqual(["measure", "null"]);
  });

  it("replaces a worker that breaks down, opens the file again, and goes on", async () => {
    const pool = new Pool("", 1);
    const ready = pool.open(opening);
    Fake.all[0].answer(opened);
    await ready;
    const lost = pool.ask(measure(0));
    const next = pool.ask(measure(1));
    Fake.all[0].breakDown();
    expect(await lost).toEqual({ type: "refused", message: "the browser gave up on it: out of memory" });
    const [old, fresh] = Fake.all;
    expect(old.ended).toBe(true);
    expect(fresh.got).toEqual([opening]);
    fresh.answer(opened);
    expect(fresh.got).toEqual([opening, measure(1)]);
    fresh.answer(done);
    expect(await next).toBe(done);
  });

  it("does not try a file again that breaks the worker down", async () => {
    const pool = new Pool("", 1);
    const ready = pool.open(opening);
    Fake.all[0].breakDown();
    expect((await ready).type).toBe("refused");
    expect(Fake.all[1].got).toEqual([]);
  });

  it("ends with a reason where no worker starts", async () => {
    const pool = new Pool("", 1);
    const asked = [0, 1].map((index) => pool.ask(measure(index)));
    for (let i = 0; i < 30 && Fake.all[i]; i++) Fake.all[i].breakDown();
    expect((await Promise.all(asked)).map(({ type }) => type)).toEqual(["refused", "refused"]);
    expect(Fake.all.length).toBeLessThan(30);
  });
});
