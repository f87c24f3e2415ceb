// One run in the browser: it runs the exported graphs step by step, and takes all measures of htlib.
// Source: htlib/student/training.py, whose order of updates and measures this follows.

import type { Meta } from "../meta";
import { makeProblem, type Problem } from "./problem";
import type { Metrics, Settings, Snapshot } from "../protocol";
import { factorise, overlaps, type SingularSystem, spectralMeasures } from "./spectrum";

export type Value = Float32Array | Float64Array | number;

/** Runs a graph by its name; inputs and outputs have names too, and numbers are scalars. */
export interface Graphs {
  run(name: string, feed: Record<string, Value>): Promise<Record<string, Float32Array | Float64Array>>;
}

/** Return the problem of these settings; an exported graph evaluates its teacher. */
export function problemFor(settings: Settings, meta: Meta, graphs: Graphs): Promise<Problem> {
  const { teacher } = settings;
  const value = async (z: Float64Array): Promise<Float64Array> =>
    (await graphs.run("links", { z }))[teacher] as Float64Array;
  return makeProblem(settings, meta.trained.sizes, { value, ...meta.teachers[teacher] });
}

interface State {
  W: Float32Array;
  m: Float32Array;
  v: Float32Array;
}

export class Student {
  /** One for each of the steps 0, 1, ..., with its spectrum. */
  readonly snapshots: Snapshot[] = [];
  divergedAt: number | null = null;
  private readonly weights = new Map<number, Float32Array>();
  private newest: SingularSystem | null = null;
  private state: State;

  constructor(
    private readonly settings: Settings,
    private readonly problem: Problem,
    private readonly meta: Meta,
    private readonly graphs: Graphs,
  ) {
    const W = problem.hiddenWeights;
    this.state = { W, m: new Float32Array(W.length), v: new Float32Array(W.length) };
  }

  /** Measure the current weights, and take the next step. */
  async advance(): Promise<void> {
    const { problem, settings } = this;
    const step = this.snapshots.length;
    const { W } = this.state;
    // The graph returns the loss at these weights together with the next weights.
    const { loss, W_new, m_new, v_new } = await this.graphs.run(`step-${settings.optimizer}`, {
      ...this.state,
      a: problem.readoutWeights,
      X: problem.train.inputs,
      y: problem.train.targets,
      lr: settings.lr,
      t: step + 1,
    });
    const measures = W.every(Number.isFinite) && Number.isFinite(loss[0]) ? await this.measure(W) : null;
    if (measures === null || measures.metrics["test_loss"] === null) {
      this.divergedAt = step;
      return;
    }
    measures.metrics["train_loss"] = loss[0];
    this.snapshots.push({ step, ...measures });
    this.weights.set(step, W);
    this.state = { W: W_new as Float32Array, m: m_new as Float32Array, v: v_new as Float32Array };
  }

  /** Return the overlaps of W and the update that led to a step. */
  overlapsAt(step: number): number[][] | null {
    const snapshot = this.snapshots[step];
    const [before, W] = [this.weights.get(step - 1), this.weights.get(step)];
    if (!snapshot.overlaps && before && W) {
      const { h, d } = this.meta.trained.sizes;
      const update = W.map((value, i) => value - before[i]);
      const system = step === this.snapshots.length - 1 && this.newest ? this.newest : factorise(W, h, d);
      snapshot.overlaps = overlaps(system, factorise(update, h, d), this.meta.vectors);
    }
    return snapshot.overlaps ?? null;
  }

  /** Free the weights of earlier steps; keep the measures and the state for the next step. */
  forgetWeights(): void {
    this.weights.clear();
    this.newest = null;
  }

  private async measure(W: Float32Array): Promise<Omit<Snapshot, "step">> {
    const { meta, problem, settings } = this;
    const { h, d } = meta.trained.sizes;
    const { saturation, ...probed } = await this.graphs.run("probe", {
      W,
      X: problem.probe.inputs,
      y: problem.probe.targets,
      X_test: problem.test.inputs,
      y_test: problem.test.targets,
      input_scale: meta.input_scales[settings.feature_scale],
      ridge_lambda: meta.ridge_lambda,
    });
    const metrics: Metrics = {};
    for (const [name, [value]] of Object.entries(probed)) metrics[name] = Number.isFinite(value) ? value : null;
    const system = (this.newest = factorise(W, h, d));
    Object.assign(metrics, spectralMeasures(system, problem.teacherDirection, meta.trained.noise.edge));
    return { metrics, saturation: saturation[0], eigenvalues: Array.from(system.eigenvalues) };
  }
}
