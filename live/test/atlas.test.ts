// Oracle: an atlas written out by hand, as htlib/explorer/stored_runs.py describes it.

import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { Atlas, type Header, type Place } from "../src/atlas";
import type { Settings } from "../src/protocol";

const SETTINGS: Settings = {
  optimizer: "adam",
  lr: 0.1,
  steps: 1,
  teacher: "softplus",
  labels: "real",
  noise_std: 0.3,
  feature_scale: "paper",
  seed: 7,
};

// Six runs: two rates of Adam and one of gradient descent, with two seeds each.  The last diverged at step 1.
const HEADER: Header = {
  optimizers: ["adam", "gd"],
  rates: [[0.1, 0.178], [1000]],
  labels: ["real"],
  seeds: [7, 8],
  steps: 1,
  config: {
    ...{ n: 6, d: 5, h: 5, n_test: 2, ridge_lambda: 0.01, activation: "tanh" },
    ...{ teacher: "softplus", noise_std: 0.3, feature_scale: "paper" },
  },
  diverged: [[5, 1]],
  metrics: [
    { name: "spectral_norm", log: true, low: 0, step: Math.LN2, error: 0 },
    { name: "alignment", log: false, low: -1, step: 0.5, error: 0 },
  ],
  size: 5,
  top: { log: true, low: Math.log(100), step: Math.LN10, error: 0, count: 2 },
  bulk: { log: true, low: 0, step: Math.LN2, error: 0 },
  knots: 24,
  eigenvalue_error: 0,
};

const NORM = [[1, 2], [1, 4], [1, 2], [1, 65535], [1, 6], [1, 65534]];
const ALIGNMENT = [[2, 3], [2, 2], [2, 0], [2, 2], [2, 4], [2, 65534]];
const SPECTRA = 11; // all alike but the second and the third

function differences(row: number[]): number[] {
  return row.map((word, i) => (word - (i ? row[i - 1] : 0)) & 0xffff);
}

function words(): number[] {
  const top: number[][] = Array.from({ length: SPECTRA }, () => [0, 1]);
  const knots: [number, number][][] = Array.from({ length: SPECTRA }, () => [[0, 0], [2, 4]]);
  top[1] = [3, 300];
  knots[1] = [[0, 2], [1, 2], [1, 5]];
  knots[2] = [[0, 6], [1, 6], [1, 9]];
  return [
    ...[...NORM, ...ALIGNMENT, ...top].flatMap(differences),
    ...knots.map((some) => some.length),
    ...knots.flat().map(([gap]) => gap),
    ...differences(knots.flat().map(([, height]) => height)),
  ];
}

function unzipped(change: Partial<Header> = {}): Buffer {
  const text = Buffer.from(JSON.stringify({ ...HEADER, ...change }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  const body = words();
  return Buffer.concat([Buffer.from("HTA1"), length, text, Buffer.from(body.map((w) => w >> 8)), Buffer.from(body)]);
}

function buffer(bytes: Buffer): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

let atlas: Atlas;
beforeAll(async () => {
  atlas = await Atlas.read(buffer(gzipSync(unzipped())));
});

function place(change: Partial<Settings> = {}): Place {
  const found = atlas.find({ ...SETTINGS, ...change });
  if (typeof found === "string") throw new Error(found);
  return found;
}

describe("reading", () => {
  it("takes what a server has unzipped already", async () => {
    expect((await Atlas.read(buffer(unzipped()))).header).toEqual(HEADER);
  });

  it("refuses other bytes and damaged ones", async () => {
    await expect(Atlas.read(buffer(Buffer.from("<html>404</html>")))).rejects.toThrow("no atlas");
    await expect(Atlas.read(new ArrayBuffer(0))).rejects.toThrow("no atlas");
    const zipped = gzipSync(unzipped());
    await expect(Atlas.read(buffer(zipped.subarray(0, -20)))).rejects.toThrow("cannot be unzipped");
    zipped[zipped.length - 6] ^= 1; // of the checksum
    await expect(Atlas.read(buffer(zipped))).rejects.toThrow("cannot be unzipped");
    await expect(Atlas.read(buffer(unzipped({ knots: 23 })))).rejects.toThrow("another length");
  });
});

describe("finding", () => {
  it("takes the nearest rate on a logarithmic scale", () => {
    expect(place()).toEqual({ optimizer: 0, rate: 0, labels: 0, seed: 0 });
    expect(place({ lr: 0.133 }).rate).toBe(0);
    expect(place({ lr: 0.136 }).rate).toBe(1); // by ratio; by difference 0.1 is nearer
    expect(place({ lr: 0.3, seed: 8 })).toEqual({ optimizer: 0, rate: 1, labels: 0, seed: 1 });
    expect(place({ optimizer: "gd", lr: 1800 })).toEqual({ optimizer: 1, rate: 0, labels: 0, seed: 0 });
  });

  it.each<[Partial<Settings>, string]>([
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
    expect(atlas.find({ ...SETTINGS, ...change })).toBe(reason);
  });

  it("gives the configuration of what it found", () => {
    const expected = { ...HEADER.config, optimizer: "adam", lr: 0.178, labels: "real", seed: 8, steps: 1 };
    expect(atlas.config(place({ lr: 0.2, seed: 8 }), 1)).toEqual(expected);
  });
});

function close(values: number[] | null, expected: number[]): void {
  expect(values).toHaveLength(expected.length);
  expected.forEach((value, i) => expect(values![i] / value).toBeCloseTo(1, 9));
}

describe("snapshots", () => {
  it("have the measures of their seed, the spread over seeds, and the last a spectrum", () => {
    const [start, end] = atlas.snapshots(place(), 1);
    expect([start.step, end.step, start.eigenvalues, start.saturation]).toEqual([0, 1, null, null]);
    expect(start.metrics).toEqual({ spectral_norm: 2, alignment: 0 });
    expect(end.metrics).toEqual({ spectral_norm: 4, alignment: 0.5 });
    expect(end.spread!.spectral_norm[0]).toBeCloseTo(4);
    expect(end.spread!.spectral_norm[1]).toBeCloseTo(16);
    expect(end.spread!.alignment).toEqual([0, 0.5]);
    close(end.eigenvalues, [4, 4, 32, 1e5, 1e302]);
  });

  it("interpolate logarithms between knots, never above the largest eigenvalues", () => {
    close(atlas.snapshots(place(), 0)[0].eigenvalues, [1, 4, 16, 100, 1000]);
    close(atlas.snapshots(place({ seed: 8 }), 0)[0].eigenvalues, [64, 64, 100, 100, 1000]);
    close(atlas.snapshots(place({ optimizer: "gd", lr: 1000, seed: 8 }), 0)[0].eigenvalues, [1, 4, 16, 100, 1000]);
  });

  it("have null for a number that is not finite, and then no spread", () => {
    const end = atlas.snapshots(place({ lr: 0.178, seed: 8 }), 1)[1];
    expect(end.metrics).toEqual({ spectral_norm: null, alignment: 0 });
    expect(end.spread).toEqual({ spectral_norm: [null, null], alignment: [-1, 0] });
  });

  it("end before a divergence", () => {
    const gd = { optimizer: "gd", lr: 1000 } as const;
    expect(atlas.divergedAt(place({ ...gd, seed: 8 }))).toBe(1);
    expect(atlas.divergedAt(place(gd))).toBeNull();
    expect(atlas.snapshots(place({ ...gd, seed: 8 }), 1).map(({ step }) => step)).toEqual([0]);
    expect(atlas.snapshots(place(gd), 1)[1].spread!.alignment).toEqual([null, null]);
  });
});

describe("the map along rates", () => {
  it("has the median over seeds, and null where a seed has no number", () => {
    const { lr, median, low, high } = atlas.map("adam", "real", 1, "spectral_norm");
    expect(lr).toEqual([0.1, 0.178]);
    expect(median[0]).toBeCloseTo(10);
    expect(low[0]).toBeCloseTo(4);
    expect(high[0]).toBeCloseTo(16);
    expect([median[1], low[1], high[1]]).toEqual([null, null, null]);
    expect(atlas.map("gd", "real", 1, "alignment").median).toEqual([null]);
    expect(atlas.map("adam", "real", 1, "alignment").median).toEqual([0.25, -0.5]);
  });

  it("refuses what there is not", () => {
    expect(() => atlas.map("adam", "real", 2, "alignment")).toThrow("no alignment of adam with real labels after 2");
    expect(() => atlas.map("adam", "noise", 1, "alignment")).toThrow("noise labels");
    expect(() => atlas.map("adam", "real", 1, "beauty")).toThrow("no beauty");
  });
});
