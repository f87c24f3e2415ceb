// The worker that trains.  htlib/explorer/messages.py describes its requests and its messages.

import { fetchMeta, lawOf, type Meta } from "./meta";
import { Refusal, refuse } from "./mirror/bounds";
import { oneStep } from "./mirror/one_step";
import type { Problem } from "./mirror/problem";
import { problemFor, Student } from "./mirror/student";
import type { Message, Settings } from "./protocol";
import { OrtGraphs } from "./runtime";

export type Order = { type: "request"; id: number; settings: Settings } | { type: "cancel"; id: number };

const RUNS_KEPT = 8;
const PROBLEMS_KEPT = 2;

/** Keeps the newest few results of a function of one string. */
class Kept<T> {
  private readonly values = new Map<string, T>();
  constructor(private readonly size: number) {}

  get(key: string, make: () => T): T {
    const value = this.values.get(key) ?? make();
    this.values.delete(key);
    this.values.set(key, value);
    for (const oldest of this.values.keys()) if (this.values.size > this.size) this.values.delete(oldest);
    return value;
  }
}

class Trainer {
  private latest: number | null = null;
  private student: Student | null = null;
  private readonly graphs = new OrtGraphs();
  private readonly problems = new Kept<Promise<Problem>>(PROBLEMS_KEPT);
  private readonly runs = new Kept<Promise<Student>>(RUNS_KEPT);
  private meta: Promise<Meta> | null = null;
  /** Resolves when the current request ends, because only one graph can run at a time. */
  private busy: Promise<void> = Promise.resolve();

  constructor(private readonly post: (message: Message) => void) {}

  obey(order: Order): void {
    if (order.type === "request") {
      const { id, settings } = order;
      this.latest = id;
      this.busy = this.busy.then(() => this.serve(id, settings)).catch((error: unknown) => this.fail(id, error));
    } else if (this.latest === order.id) this.latest = null;
  }

  private fail(id: number, error: unknown): void {
    if (error instanceof Refusal) return this.post({ id, type: "error", step: null, message: error.message });
    // Throw, so that the page replaces this worker: after a failure ONNX Runtime does not start again.
    setTimeout(() => {
      throw error;
    });
  }

  private async serve(id: number, settings: Settings): Promise<void> {
    if (this.latest !== id) return this.post({ id, type: "cancelled", step: null, message: null });
    const { steps } = settings;
    const progress = (phase: "load" | "start" | "train", step: number): void =>
      this.post({ id, type: "progress", phase, step, steps });
    progress("load", 0);
    const meta = await (this.meta ??= fetchMeta(new URL(".", import.meta.url)));
    refuse(settings, meta);
    const { sizes, noise } = meta.trained;
    const { activation, ridge_lambda } = meta;
    const prediction = oneStep(lawOf(meta.trained, settings), settings);
    const config = { ...settings, ...sizes, activation, ridge_lambda };
    this.post({ id, type: "start", config, noise, prediction, source: "train" });
    const student = await this.runs.get(JSON.stringify({ ...settings, steps: null }), () => this.begin(settings, meta));
    if (student !== this.student) this.student?.forgetWeights();
    this.student = student;
    const known = student.snapshots.slice(0, steps + 1);
    if (known.length) this.tell(id, student, known, steps);
    while (student.snapshots.length <= steps && student.divergedAt === null) {
      if (this.latest !== id) break;
      const step = student.snapshots.length;
      progress(step === 0 ? "start" : "train", step);
      await student.advance();
      if (student.divergedAt === null) this.tell(id, student, student.snapshots.slice(step), steps);
      await turn();
    }
    const reached = student.snapshots.length - 1;
    if (student.divergedAt !== null && student.divergedAt <= steps)
      this.post({ id, type: "diverged", step: student.divergedAt, message: null });
    else if (reached >= steps) this.post({ id, type: "done", step: steps, message: null });
    else this.post({ id, type: "cancelled", step: reached < 0 ? null : reached, message: null });
  }

  /** Send snapshots; only the last has a spectrum and overlaps. */
  private tell(id: number, student: Student, snapshots: Student["snapshots"], steps: number): void {
    const last = snapshots[snapshots.length - 1];
    const overlaps = last.step === steps ? student.overlapsAt(steps) : null;
    this.post({
      id,
      type: "snapshots",
      snapshots: snapshots.map((s) => (s === last ? { ...s, overlaps } : { ...s, eigenvalues: null, overlaps: null })),
    });
  }

  private async begin(settings: Settings, meta: Meta): Promise<Student> {
    const { teacher, labels, noise_std, seed } = settings;
    const key = JSON.stringify({ teacher, labels, noise_std, seed });
    const problem = await this.problems.get(key, () => problemFor(settings, meta, this.graphs));
    return new Student(settings, problem, meta, this.graphs);
  }
}

/** Let waiting messages, such as a cancel, arrive. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

const trainer = new Trainer((message) => postMessage(message));
onmessage = (event: MessageEvent<Order>) => trainer.obey(event.data);
