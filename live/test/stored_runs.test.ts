// Oracle: stored runs written out by hand, as htlib/explorer/stored_runs.py describes them.

import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { configOf, find, rateMap, read, snapshots, type StoredRun, type StoredRuns } from "../src/stored_runs";
import { SETTINGS } from "./settings";

function run(lr: number, seed: number, norm: (number | null)[], alignment: number[], change: Partial<StoredRun> = {}): StoredRun {
  const largest = norm.map(() => [100, 1000]);
  const counts = norm.map(() => [-1, 1, 0, 2, 0, 0, 1, 0, 1]); // 0.56; 1.33 and 2.37; 10 and more
  return {
    ...{ optimizer: "adam", labels: "real", diverged_at: null, lr, seed, largest, counts, saturation: [0, 0.5] },
    ...{ metrics: { spectral_norm: norm, alignment }, ...change },
  };
}

const GD: Partial<StoredRun> = { optimizer: "gd", largest: [[0.4, 3]], counts: [[-1, 1, 1]], diverged_at: 1 };
const STORED: StoredRuns = {
  format: "htlib-stored-runs-2",
  config: {
    ...{ n: 6, d: 5, h: 5, n_test: 2, ridge_lambda: 0.01, activation: "tanh", steps: 1 },
    ...{ teacher: "softplus", noise_std: 0.3, feature_scale: "paper" },
  },
  largest_digits: 3,
  bins_per_decade: 2,
  runs: [
    run(0.178, 0, [2, 4], [0, -1]),
    run(0.178, 8, [2, null], [0, 0]),
    run(0.1, 0, [2, 4], [0, 0.5]),
    run(0.1, 8, [2, 16], [0, 0]),
    run(1000, 0, [2, 64], [0, 1], { optimizer: "gd" }),
    run(1000, 8, [2], [0], GD),
  ],
};
const PLACE = { ...SETTINGS, lr: 0.1, steps: 1 };

function found(change: Partial<typeof SETTINGS> = {}): StoredRun {
  const nearest = find(STORED, { ...PLACE, ...change });
  if (typeof nearest === "string") throw new Error(nearest);
  return nearest;
}

describe("reading", () => {
  const buffer = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer;
  const text = Buffer.from(JSON.stringify(STORED));

  it("takes the file, and what a server has unzipped already", async () => {
    expect(await read(buffer(gzipSync(text)))).toEqual(STORED);
    expect(await read(buffer(text))).toEqual(STORED);
  });

  it("refuses other bytes and damaged ones", async () => {
    const zipped = gzipSync(text);
    await expect(read(buffer(zipped.subarray(0, -20)))).rejects.toThrow("damaged");
    zipped[zipped.length - 6] ^= 1; // of the checksum
    for (const bytes of [Buffer.from("<html>404</html>"), Buffer.of(), text.subarray(0, -9), zipped])
      await expect(read(buffer(bytes))).rejects.toThrow("damaged");
    await expect(read(buffer(Buffer.from("{}")))).rejects.toThrow("not of the format");
  });
});

describe("finding", () => {
  it("takes the nearest rate on a logarithmic scale", () => {
    expect(found()).toBe(STORED.runs[2]);
    expect(found({ lr: 0.133 }).lr).toBe(0.1);
    expect(found({ lr: 0.136 }).lr).toBe(0.178); // by ratio; by difference 0.1 is nearer
    expect(found({ lr: 0.3, seed: 8 })).toBe(STORED.runs[1]);
    expect(found({ optimizer: "gd", lr: 1800 })).toBe(STORED.runs[4]);
  });

  it.each<[Partial<typeof SETTINGS>, string]>([
    [{ teacher: "relu" }, "No stored run has the teacher relu."],
    [{ noise_std: 0.5 }, "No stored run has the label noise 0.5."],
    [{ feature_scale: "released-code" }, "No stored run has the feature scale released-code."],
    [{ labels: "noise" }, "No stored run has the labels noise."],
    [{ seed: 3 }, "No stored run has the seed 3."],
    [{ steps: 2 }, "No stored run has more than 1 steps."],
    [{ lr: 0.4 }, "No stored run of Adam has a learning rate near 0.4: they go from 0.1 to 0.178."],
    [{ lr: 0 }, "No stored run of Adam has a learning rate near 0: they go from 0.1 to 0.178."],
    [{ optimizer: "gd" }, "No stored run of gradient descent has a learning rate near 0.1: they go from 1000 to 1000."],
  ])("says what no stored run has: %o", (change, reason) => {
    expect(find(STORED, { ...PLACE, ...change })).toBe(reason);
  });

  it("gives the configuration of what it found", () => {
    const expected = { ...STORED.config, optimizer: "adam", lr: 0.178, labels: "real", seed: 8, steps: 0 };
    expect(configOf(STORED, found({ lr: 0.2, seed: 8 }), 0)).toEqual(expected);
  });
});

describe("snapshots", () => {
  it("have the measures of their seed, the spread over seeds, and the last a spectrum", () => {
    const [start, end] = snapshots(STORED, found(), 1);
    expect([start.step, end.step, start.eigenvalues, start.saturation, end.saturation]).toEqual([0, 1, null, 0, 0.5]);
    expect(start.metrics).toEqual({ spectral_norm: 2, alignment: 0 });
    expect(end.metrics).toEqual({ spectral_norm: 4, alignment: 0.5 });
    expect(end.spread).toEqual({ spectral_norm: [4, 16], alignment: [0, 0.5] });
  });

  it("spread the eigenvalues of a bin over it, below the largest ones", () => {
    const [{ eigenvalues }] = snapshots(STORED, found(), 0);
    [-0.25, 0.625, 0.875, 2, 3].forEach((power, i) => expect(Math.log10(eigenvalues![i])).toBeCloseTo(power, 12));
  });

  it("fill up with zeros, and have none above the largest as they are stored", () => {
    expect(snapshots(STORED, found({ optimizer: "gd", lr: 1000, seed: 8 }), 0)[0].eigenvalues).toEqual([0, 0, 0, 0.4, 3]);
    const [{ eigenvalues }] = snapshots(STORED, { ...found(), largest: [[0.4, 3]], counts: [[-1, 4, 1]] }, 0);
    expect(eigenvalues!.slice(2)).toEqual([0.4, 0.4, 3]);
  });

  it("have overlaps at their last step where the run has them, as squares", () => {
    const run = { ...found(), overlaps: [[100, 0, 20, 50]] };
    expect(snapshots(STORED, run, 1).map(({ overlaps }) => overlaps)).toEqual([null, [[1, 0], [0.2 ** 2, 0.25]]]);
    expect(snapshots(STORED, run, 0)[0].overlaps).toBeNull();
    expect(snapshots(STORED, found(), 1)[1].overlaps).toBeNull();
  });

  it("have null for a number that is not finite, and then no spread", () => {
    const end = snapshots(STORED, found({ lr: 0.178, seed: 8 }), 1)[1];
    expect(end.metrics).toEqual({ spectral_norm: null, alignment: 0 });
    expect(end.spread).toEqual({ spectral_norm: [null, null], alignment: [-1, 0] });
  });

  it("end before a divergence", () => {
    const gd = { optimizer: "gd", lr: 1000 } as const;
    expect(snapshots(STORED, found({ ...gd, seed: 8 }), 1).map(({ step }) => step)).toEqual([0]);
    expect(snapshots(STORED, found(gd), 1)[1].spread!.alignment).toEqual([null, null]);
  });
});

describe("the map along rates", () => {
  it("ascends, with the median over seeds, and null where a seed has no number", () => {
    const { lr, median, low, high } = rateMap(STORED, found(), 1, "spectral_norm");
    expect([lr, median, low, high]).toEqual([[0.1, 0.178], [10, null], [4, null], [16, null]]);
    expect(rateMap(STORED, found({ optimizer: "gd", lr: 1000 }), 1, "alignment").median).toEqual([null]);
    expect(rateMap(STORED, found(), 1, "alignment").median).toEqual([0.25, -0.5]);
  });
});
