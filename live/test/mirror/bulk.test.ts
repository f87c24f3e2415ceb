// Oracle: htlib, GeneralizedMarchenkoPastur(columns, rows, base=1, column_counts=..., row_counts=...); closed forms.

import { describe, expect, it } from "vitest";
import { bulk, type StepNoise } from "../../src/mirror/bulk";
import type { Bulk } from "../../src/protocol";

const GRADIENT: StepNoise = {
  columns: [0.02, 0.3, 1, 4],
  echo: [-0.004, -0.05, -0.2, -0.5],
  counts: [100, 120, 70, 9],
  rows: [0.05, 0.5, 2, 8],
  row_counts: [150, 200, 90, 9],
};
const SIGNS: StepNoise = { columns: [0, 0.5, 1], echo: [0, 0, 0], counts: [100, 100, 99], rows: [1], row_counts: [449] };

/** Read the density off the line that the chart draws. */
function density({ x, density }: Bulk, at: number): number {
  const i = x.findIndex((value) => value >= at);
  const share = (at - x[i - 1]) / (x[i] - x[i - 1]);
  return density[i - 1] * (1 - share) + density[i] * share;
}

/** The integral of that line. */
const total = ({ x, density }: Bulk): number =>
  x.slice(1).reduce((sum, value, i) => sum + ((value - x[i]) * (density[i] + density[i + 1])) / 2, 0);

describe("bulk", () => {
  it.each([
    { noise: GRADIENT, lr: 0.2, hasOutlier: false, edge: 1488.071, x: [57.4, 348, 1030], expected: [0.00226668, 0.000937025, 0.000350352] },
    { noise: GRADIENT, lr: 1, hasOutlier: true, edge: 3493.835, x: [67.6, 417, 1350], expected: [0.00191425, 0.000760046, 0.00020817] },
    { noise: GRADIENT, lr: 100, hasOutlier: true, edge: 30251873, x: [6270, 3.25e5, 4.74e6], expected: [1.48166e-5, 4.55403e-7, 2.66948e-8] },
    { noise: SIGNS, lr: 100, hasOutlier: true, edge: 10453937.7, x: [266, 1.27e6, 4.41e6], expected: [0.000608052, 1.552680e-7, 6.034515e-8] },
  ])("agrees with htlib at rate $lr", ({ noise, lr, hasOutlier, edge, x, expected }) => {
    const law = bulk(noise, lr, hasOutlier);
    expect(law.edge / edge).toBeCloseTo(1, 3);
    x.forEach((at, i) => expect(Math.abs(density(law, at) / expected[i] - 1)).toBeLessThan(5e-3));
    // the line cuts the corners of square roots
    expect(Math.abs(total(law) - (hasOutlier ? 299 : 300) / 300)).toBeLessThan(8e-3);
  });

  it("is zero in a gap of the support", () => {
    const law = bulk(SIGNS, 100, true);
    for (const at of [30, 700, 1e4, 3.1e5, 1.05e7]) {
      const i = law.x.findIndex((value) => value >= at);
      expect(i > 0 ? Math.min(law.density[i - 1], law.density[i]) : 0, String(at)).toBe(0);
    }
  });

  it.each([GRADIENT, SIGNS])("is the Marchenko-Pastur law at rate 0", (noise) => {
    const law = bulk(noise, 0, false);
    const ends = [-1, 1].map((sign) => (Math.sqrt(450) + sign * Math.sqrt(300)) ** 2);
    expect(law.edge / ends[1]).toBeCloseTo(1, 3);
    expect(law.x[0] / ends[0]).toBeCloseTo(1, 2);
    for (const at of [40, 300, 1200])
      expect(density(law, at) / (Math.sqrt((ends[1] - at) * (at - ends[0])) / (2 * Math.PI * 300 * at))).toBeCloseTo(1, 2);
  });
});
