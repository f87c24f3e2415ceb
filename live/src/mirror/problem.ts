// The learning problem that a seed draws: teacher direction, three datasets and the initial weights.
// Source: htlib/student/problem.py, with the same streams in float64; results are cast to float32, as htlib casts them.

import type { Settings, Sizes } from "../protocol";
import { Generator } from "../random";

/** The function f of the teacher f(<beta, x>), and mean and variance of f(z) for a standard normal z. */
export interface Teacher {
  value(z: Float64Array): Promise<Float64Array>;
  mean: number;
  variance: number;
}

export interface Dataset {
  /** n rows of d. */
  inputs: Float32Array;
  targets: Float32Array;
}

export interface Problem {
  teacherDirection: Float32Array;
  /** h rows of d. */
  hiddenWeights: Float32Array;
  readoutWeights: Float32Array;
  train: Dataset;
  probe: Dataset;
  test: Dataset;
}

// In the order of htlib: the index is part of the seed.
const STREAMS = [
  "teacher",
  "hidden",
  "readout",
  "train_inputs",
  "train_noise",
  "probe_inputs",
  "probe_noise",
  "test_inputs",
  "test_noise",
  "label_control",
] as const;

type Stream = (typeof STREAMS)[number];

export async function makeProblem(settings: Settings, sizes: Sizes, teacher: Teacher): Promise<Problem> {
  const { seed, labels, noise_std } = settings;
  const { n, d, h, n_test } = sizes;
  const stream = (name: Stream): Generator => new Generator(seed, STREAMS.indexOf(name));
  const direction = unit(stream("teacher").normals(d));

  async function draw(name: "train" | "probe" | "test", size: number): Promise<Dataset> {
    const inputs = stream(`${name}_inputs`).normals(size * d);
    const noise = stream(`${name}_noise`).normals(size);
    const values = await teacher.value(projections(inputs, direction));
    const real = values.map((value, i) => value + noise_std * noise[i]);
    const targets = name === "train" ? control(real) : real;
    return {
      inputs: Float32Array.from(inputs),
      targets: Float32Array.from(labels === "centred" ? targets.map((y) => y - teacher.mean) : targets),
    };
  }

  /** Return the training targets of a control, which does not change the other datasets. */
  function control(targets: Float64Array): Float64Array {
    if (labels === "shuffled") return stream("label_control").permutation(targets);
    if (labels !== "noise") return targets;
    const deviation = Math.sqrt(teacher.variance + noise_std ** 2);
    return stream("label_control").normals(targets.length).map((xi) => teacher.mean + deviation * xi);
  }

  return {
    teacherDirection: Float32Array.from(direction),
    hiddenWeights: Float32Array.from(stream("hidden").normals(h * d)),
    readoutWeights: Float32Array.from(stream("readout").normals(h)),
    train: await draw("train", n),
    probe: await draw("probe", n),
    test: await draw("test", n_test),
  };
}

/** Return the inner product of each row with the direction. */
function projections(rows: Float64Array, direction: Float64Array): Float64Array {
  const d = direction.length;
  return new Float64Array(rows.length / d).map((_, i) => dot(rows.subarray(i * d, (i + 1) * d), direction));
}

function unit(vector: Float64Array): Float64Array {
  const norm = Math.sqrt(dot(vector, vector));
  return vector.map((x) => x / norm);
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}
