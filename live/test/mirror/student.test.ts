// Oracle: by hand.  The graphs are stand-ins whose every answer is known; the real ones are tested from Python.

import { beforeEach, describe, expect, test } from "vitest";
import type { Meta } from "../../src/meta";
import type { Problem } from "../../src/mirror/problem";
import { type Graphs, Student, type Value } from "../../src/mirror/student";
import { CHOICES, SETTINGS } from "../settings";

const SIZES = { n: 1, d: 2, h: 3, n_test: 1 };
const shape = { sizes: SIZES, noise: { x: [], density: [], edge: 4 }, laws: {} };
const META: Meta = {
  options: { settings: SETTINGS, choices: CHOICES, names: {}, defaults: {}, max_steps: 50 },
  activation: "tanh",
  ridge_lambda: 0.01,
  input_scales: { paper: 0.7, "released-code": 0.5 },
  vectors: 2,
  teachers: {},
  trained: shape,
  stored: shape,
};
const one = { inputs: Float32Array.of(1, 1), targets: Float32Array.of(1) };
const PROBLEM: Problem = {
  teacherDirection: Float32Array.of(0, 1),
  hiddenWeights: Float32Array.of(1, 0, 0, 2, 0, 0),
  readoutWeights: Float32Array.of(1, 1, 1),
  train: one,
  probe: one,
  test: one,
};

/** Every step doubles W and counts in m; the loss is the first weight. */
class Doubling implements Graphs {
  asked: [string, Record<string, Value>][] = [];
  testLoss = 0.5;

  async run(name: string, feed: Record<string, Value>): Promise<Record<string, Float32Array | Float64Array>> {
    this.asked.push([name, feed]);
    const scalar = (x: number): Float64Array => Float64Array.of(x);
    if (name === "probe")
      return { ridge_train_loss: scalar(0.25), test_loss: scalar(this.testLoss), kta: scalar(NaN), saturation: scalar(0.125) };
    const [W, m] = [feed["W"] as Float32Array, feed["m"] as Float32Array];
    return { loss: W.slice(0, 1), W_new: W.map((x) => 2 * x), m_new: m.map((x) => x + 1), v_new: m };
  }
}

let graphs: Doubling;
let student: Student;

beforeEach(() => {
  graphs = new Doubling();
  student = new Student(SETTINGS, PROBLEM, META, graphs);
});

describe("a run", () => {
  test("measures the start first, then what each step leaves", async () => {
    for (let i = 0; i < 3; i++) await student.advance();
    expect(student.snapshots.map((s) => s.step)).toEqual([0, 1, 2]);
    expect(student.snapshots.map((s) => s.metrics["train_loss"])).toEqual([1, 2, 4]);
    // W is diagonal: 1 and 2, then twice that
    expect(student.snapshots.map((s) => s.metrics["spectral_norm"])).toEqual([2, 4, 8]);
    expect(student.snapshots.map((s) => s.metrics["n_outliers"])).toEqual([0, 1, 2]);
    expect(student.snapshots[1].eigenvalues).toEqual([4, 16]);
    expect(student.snapshots[0].metrics["alignment"]).toBe(1);
    expect(student.snapshots[0].metrics["kta"]).toBeNull();
    expect(student.snapshots[0].saturation).toBe(0.125);
  });

  test("hands the optimizer's state on and counts its steps from one", async () => {
    for (let i = 0; i < 2; i++) await student.advance();
    const steps = graphs.asked.filter(([name]) => name === "step-adam").map(([, feed]) => feed);
    expect(steps.map((feed) => feed["t"])).toEqual([1, 2]);
    expect(steps.map((feed) => (feed["m"] as Float32Array)[0])).toEqual([0, 1]);
  });

  test("reads its features at the scale that is asked for", async () => {
    student = new Student({ ...SETTINGS, feature_scale: "released-code" }, PROBLEM, META, graphs);
    await student.advance();
    expect(graphs.asked[1][1]["input_scale"]).toBe(0.5);
  });

  test("leaves the problem as it was", async () => {
    for (let i = 0; i < 3; i++) await student.advance();
    expect(Array.from(PROBLEM.hiddenWeights)).toEqual([1, 0, 0, 2, 0, 0]);
  });

  test("ends where a number is no longer finite, and keeps what was before", async () => {
    await student.advance();
    graphs.testLoss = Infinity;
    await student.advance();
    expect(student.divergedAt).toBe(1);
    expect(student.snapshots.length).toBe(1);
  });
});

describe("overlaps of weights and update", () => {
  test("are those of one direction here, as each update is the weights before it", async () => {
    for (let i = 0; i < 3; i++) await student.advance();
    expect(student.overlapsAt(2)).toEqual([[1, 0], [0, 1]]);
    expect(student.overlapsAt(1)).toEqual([[1, 0], [0, 1]]);
    expect(student.overlapsAt(0)).toBeNull();
  });

  test("are not known once the weights are forgotten, unless they were before", async () => {
    for (let i = 0; i < 3; i++) await student.advance();
    student.overlapsAt(1);
    student.forgetWeights();
    expect(student.overlapsAt(2)).toBeNull();
    expect(student.overlapsAt(1)).not.toBeNull();
    await student.advance();
    expect(student.snapshots[3].metrics["train_loss"]).toBe(8);
  });
});
