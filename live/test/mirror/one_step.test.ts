// Oracle: the modules whose numbers a prediction carries.

import { expect, it } from "vitest";
import { bulk } from "../../src/mirror/bulk";
import { predict } from "../../src/mirror/law";
import { oneStep, type StepLaw } from "../../src/mirror/one_step";

const LAW: StepLaw = {
  ...{ h: 450, d: 300, gain: 91744, drag: 1999, cross: 1510, signal: 14262, unstable_lr: 0.15 },
  noise: { columns: [0.5, 1], echo: [0, 0], counts: [150, 149], rows: [1], row_counts: [449] },
};

it("has the bulk after one step, and at no other step", () => {
  for (const lr of [0.01, 1]) {
    const expected = bulk(LAW.noise, lr, lr === 1); // the critical rate is near 0.08
    expect(oneStep(LAW, { lr, steps: 1 })).toEqual({ ...predict(LAW, lr), bulk: expected, unstable_lr: 0.15 });
    for (const steps of [0, 2]) expect(oneStep(LAW, { lr, steps })).toMatchObject({ bulk: null, unstable_lr: 0.15 });
  }
});

it("is null where there is no theory", () => {
  expect(oneStep(undefined, { lr: 1, steps: 1 })).toBeNull();
});
