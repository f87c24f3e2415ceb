// Oracle: htlib, p = make_problem(ExperimentConfig(n=4, d=3, h=5, n_test=2, seed=7, teacher="relu", labels=...)),
// rounded to float32; E relu(z) = 1 / sqrt(2 pi) and E relu(z)^2 = 1/2 in closed form.

import { describe, expect, it } from "vitest";
import { type Problem, type Teacher, makeProblem } from "../../src/mirror/problem";
import type { Settings } from "../../src/protocol";

const SETTINGS: Settings = {
  optimizer: "adam",
  lr: 1,
  steps: 1,
  teacher: "relu",
  labels: "real",
  noise_std: 0.3,
  feature_scale: "paper",
  seed: 7,
};
const SIZES = { n: 4, d: 3, h: 5, n_test: 2 };
const MEAN = 1 / Math.sqrt(2 * Math.PI);
const RELU: Teacher = {
  value: async (z) => z.map((x) => Math.max(0, x)),
  mean: MEAN,
  variance: 0.5 - MEAN ** 2,
};

// p.train.targets for each kind of labels
const TRAIN = {
  real: [0.14715220998247197, 0.9475069627439344, 0.10807567499010641, -0.35376731254799326],
  shuffled: [0.10807567499010641, -0.35376731254799326, 0.9475069627439344, 0.14715220998247197],
  noise: [-0.04763055460777699, 1.068327142030347, -0.6538435454920237, -0.0534913660459681],
  centred: [-0.25179007041896073, 0.5485646823425017, -0.2908666054113263, -0.752709592949426],
};
const PROBE = [1.1166220722055344, 2.0922363006740463, 0.03407396907428253, 0.15843267284378837];
const TEST = [-0.28152525703186243, 0.13888987210789766];

const make = (changes: Partial<Settings> = {}): Promise<Problem> =>
  makeProblem({ ...SETTINGS, ...changes }, SIZES, RELU);

function expectFloat32(actual: Float32Array, expected: number[]): void {
  expect([...actual]).toEqual(expected.map(Math.fround));
}

describe("makeProblem", () => {
  it("draws weights, direction and inputs from their own streams, row by row", async () => {
    const p = await make();
    expectFloat32(p.teacherDirection, [-0.380885707911122, 0.8856660946585156, -0.26555912012464683]);
    // p.hidden_weights[0], p.hidden_weights[-1, -1], p.readout_weights
    expect(p.hiddenWeights).toHaveLength(15);
    expectFloat32(p.hiddenWeights.slice(0, 3), [1.4019101206317888, 0.8534203299688002, 3.05630239701777]);
    expectFloat32(p.hiddenWeights.slice(-1), [-1.1012572132792406]);
    expectFloat32(p.readoutWeights, [
      0.039485016506937844, 1.1078549331761538, -0.5126091082763263, 0.8730996136571955, 0.12201775038867603,
    ]);
    // p.train.inputs[-1], p.probe.inputs[0], p.test.inputs[0]
    expectFloat32(p.train.inputs.slice(-3), [1.4418761183214206, -2.1490875775115583, 2.449799528683512]);
    expectFloat32(p.probe.inputs.slice(0, 3), [0.07276854262629044, 0.9128039162031718, -0.44097355810988415]);
    expectFloat32(p.test.inputs.slice(0, 3), [0.9024389073090412, -2.113150683941243, -0.45971413803590955]);
    expect(p.test.inputs).toHaveLength(6);
  });

  it.each(["real", "shuffled", "noise"] as const)("makes %s training targets and leaves the others", async (labels) => {
    const p = await make({ labels });
    expectFloat32(p.train.targets, TRAIN[labels]);
    expectFloat32(p.probe.targets, PROBE);
    expectFloat32(p.test.targets, TEST);
  });

  it("centres the targets of all three datasets", async () => {
    const p = await make({ labels: "centred" });
    expectFloat32(p.train.targets, TRAIN.centred);
    expectFloat32(p.probe.targets, PROBE.map((y) => y - MEAN));
    expectFloat32(p.test.targets, TEST.map((y) => y - MEAN));
  });

  it("without noise gives the teacher of float64 inner products", async () => {
    const seen: Float64Array[] = [];
    const teacher: Teacher = { ...RELU, value: async (z) => (seen.push(z), z) };
    const p = await makeProblem({ ...SETTINGS, noise_std: 0 }, SIZES, teacher);
    // z of the first training sample, by hand from the numbers that float32 has rounded: equal to its seven digits only
    const z = [0, 1, 2].reduce((sum, i) => sum + p.train.inputs[i] * p.teacherDirection[i], 0);
    expect(seen.map((values) => values.length)).toEqual([4, 4, 2]);
    expect(seen[0][0]).toBeCloseTo(z, 6);
    expect(seen[0][0]).not.toBe(z);
    expectFloat32(p.train.targets, [...seen[0]]);
  });

  it("shares what it can between configurations", async () => {
    const [few, many] = await Promise.all([make(), makeProblem(SETTINGS, { ...SIZES, n: 9, h: 8 }, RELU)]);
    expect([...many.train.inputs.slice(0, 12)]).toEqual([...few.train.inputs]);
    expect([...many.train.targets.slice(0, 4)]).toEqual([...few.train.targets]);
    expect([...many.hiddenWeights.slice(0, 15)]).toEqual([...few.hiddenWeights]);
    expect([...many.test.targets]).toEqual([...few.test.targets]);
  });
});
