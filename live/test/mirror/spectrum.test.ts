// Oracle: htlib and NumPy (the calls are in the comments), or a spectrum known by construction.

import { describe, expect, it } from "vitest";
import { Generator } from "../../src/random";
import {
  type SingularSystem,
  decompose,
  factorise,
  gram,
  overlaps,
  spectralMeasures,
  stableRank,
} from "../../src/mirror/spectrum";
import { fitPowerLaw, hillAlpha } from "../../src/mirror/power_law";

const matrix = (h: number, d: number, entry: (i: number, j: number) => number): Float32Array =>
  Float32Array.from({ length: h * d }, (_, k) => entry(Math.floor(k / d), k % d));

const axis = (d: number): Float32Array => Float32Array.from({ length: d }, (_, i) => (i === 0 ? 1 : 0));

const spectrum = (...values: number[]): Float64Array => Float64Array.from(values);

/** Largest difference relative to the largest of the expected values. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  const scale = Math.max(...Array.from(expected, Math.abs));
  return Math.max(...Array.from(actual, (x, i) => Math.abs(x - expected[i]))) / scale;
}

function inner({ vectors, eigenvalues }: SingularSystem, i: number, j: number): number {
  const d = eigenvalues.length;
  return vectors.subarray(i * d, (i + 1) * d).reduce((sum, x, k) => sum + x * vectors[j * d + k], 0);
}

// W of the explorer: default_rng(SeedSequence(0, spawn_key=(1,))).standard_normal((450, 300)) as float32
const GAUSSIAN = Float32Array.from(new Generator(0, 1).normals(450 * 300));

// Any shape, a row left over from blocks of four: (5, 3)
const SMALL = Float32Array.of(3, 1, 0, 0, 2, 1, 1, 0, 1, 2, 2, 0, 0, 0, 1);

// One signal 10^7 times as large as the rest, which has rank 4; 12 rows, 8 columns, every entry exact in float32
const SPIKED = matrix(12, 8, (i, j) => {
  const sign = ((i * i) % 3 === 0 ? 1 : -1) * ((j * j) % 5 < 2 ? 1 : -1);
  return 2 ** 20 * sign + ((i * 7 + j * 3 + i * j) % 5) - 2;
});

describe("gram", () => {
  it("is W^T W", () => {
    // by hand
    expect([...gram(SMALL, 5, 3)]).toEqual([14, 7, 1, 7, 9, 2, 1, 2, 3]);
  });

  it("is summed in float64", () => {
    expect([...gram(Float32Array.of(2 ** 20, 1), 2, 1)]).toEqual([2 ** 40 + 1]);
  });
});

describe("decompose", () => {
  it("gives ascending eigenvalues and rows that are orthonormal eigenvectors", () => {
    const G = gram(GAUSSIAN, 450, 300);
    const system = decompose(G, 300);
    const { eigenvalues, vectors } = system;
    expect([...eigenvalues]).toEqual([...eigenvalues].sort((a, b) => a - b));
    for (const i of [0, 1, 150, 298, 299]) {
      const v = vectors.subarray(i * 300, (i + 1) * 300);
      const image = v.map((_, r) => v.reduce((sum, x, c) => sum + G[r * 300 + c] * x, 0));
      expect(distance(image, v.map((x) => eigenvalues[i] * x))).toBeLessThan(1e-11);
      for (const j of [0, 1, 150, 298, 299]) expect(inner(system, i, j)).toBeCloseTo(i === j ? 1 : 0, 12);
    }
  });

  it("keeps the vectors of a null space orthonormal", () => {
    // rank one with many equal rows: the products of tiny numbers in its null space would underflow
    const system = decompose(gram(matrix(90, 60, (i, j) => (1 + (i % 3)) * (1 + (j % 4))), 90, 60), 60);
    for (let i = 0; i < 60; i++) {
      for (let j = 0; j <= i; j++) expect(inner(system, i, j)).toBeCloseTo(i === j ? 1 : 0, 12);
    }
    expect(system.eigenvalues.every((x) => x >= 0)).toBe(true);
  });
});

describe("factorise", () => {
  it("finds the spectrum of noise", () => {
    // e = htlib.esd(W); e[0], e[150], e[299], e.sum()
    const { eigenvalues } = factorise(GAUSSIAN, 450, 300);
    const some = [eigenvalues[0], eigenvalues[150], eigenvalues[299]];
    expect(distance(some, [15.841597589208384, 345.4306406090341, 1428.7212982490898])).toBeLessThan(1e-12);
    expect(eigenvalues.reduce((sum, x) => sum + x)).toBeCloseTo(135098.1740350795, 7);
  });

  it("resolves eigenvalues that the Gram matrix has lost, and none below rounding noise", () => {
    // htlib.overlaps.SingularSystem(W).eigenvalues; np.linalg.eigvalsh(W.T @ W)[3] is 6.3137...
    const expected = [0, 0, 0, 6.3132681714362615, 38.02063669763141, 49.36015206052217, 78.77469409013317];
    const system = factorise(SPIKED, 12, 8);
    expect(system.eigenvalues[7] / 105553101586470.58).toBeCloseTo(1, 12);
    expected.forEach((x, i) => expect(Math.abs(system.eigenvalues[i] - x)).toBeLessThanOrEqual(1e-9 * x));
    for (let i = 3; i < 8; i++) {
      for (let j = 3; j <= i; j++) expect(inner(system, i, j)).toBeCloseTo(i === j ? 1 : 0, 12);
    }
  });

  it("knows a matrix of rank one", () => {
    // |u|^2 |v|^2 by hand
    const { eigenvalues } = factorise(matrix(12, 6, (i, j) => (i < 8 ? 1 + j : 0)), 12, 6);
    expect([...eigenvalues.slice(0, 5)]).toEqual([0, 0, 0, 0, 0]);
    expect(eigenvalues[5] / (8 * 91)).toBeCloseTo(1, 13);
  });

  it.each([1e-20, 1e15])("does not depend on the scale (%s)", (scale) => {
    const scaled = SMALL.map((x) => x * scale);
    const expected = factorise(SMALL, 5, 3).eigenvalues.map((x) => x * scale ** 2);
    expect(distance(factorise(scaled, 5, 3).eigenvalues, expected)).toBeLessThan(1e-6);
  });

  it("gives zeros for zeros", () => {
    expect([...factorise(new Float32Array(15), 5, 3).eigenvalues]).toEqual([0, 0, 0]);
  });
});

describe("hillAlpha", () => {
  it("is 1 + n / sum of logarithms over the upper half", () => {
    // by hand: 1 + 2 / ln 2; of an odd number the middle one is the threshold: 1 + 2 / ln 3
    expect(hillAlpha(spectrum(1, 2, 4, 8))).toBeCloseTo(1 + 2 / Math.LN2, 14);
    expect(hillAlpha(spectrum(1, 2, 6))).toBeCloseTo(1 + 2 / Math.log(3), 14);
  });

  it("is infinite where the upper half is constant", () => {
    expect(hillAlpha(spectrum(1, 2, 3, 3))).toBe(Infinity);
  });
});

describe("fitPowerLaw", () => {
  it("takes the threshold of the smallest distance", () => {
    // htlib.fit_power_law([1, 1, 1, 2, 2, 3, 4.5, 7, 7, 20, 90])
    const fit = fitPowerLaw(spectrum(1, 1, 1, 2, 2, 3, 4.5, 7, 7, 20, 90));
    expect(fit.xmin).toBe(2);
    expect(fit.alpha).toBeCloseTo(1.8137384401466834, 12);
    expect(fit.ksDistance).toBeCloseTo(0.13919635339880376, 12);
  });

  it("considers the smallest value, and no tail of one value", () => {
    // htlib.fit_power_law([1, 2, 4, 8]); a tail of two has the distance 1 - exp(-2) - 1/2, by hand
    const fit = fitPowerLaw(spectrum(1, 2, 4, 8));
    expect(fit.xmin).toBe(1);
    expect(fit.ksDistance).toBeCloseTo(0.23658288096740804, 14);
  });

  it("has all equals of the threshold in the tail", () => {
    // by hand: the third of four values is still the threshold; without the first of the equals it would be 1/3
    expect(fitPowerLaw(spectrum(1, 1, 1, 2)).ksDistance).toBe(1 / 2);
  });

  it("takes the smallest threshold of those with one distance", () => {
    // by hand: 2/6 for the threshold 1 and 1/3 for 2, each at the last value that equals it
    const fit = fitPowerLaw(spectrum(1, 1, 1, 2, 2, 4));
    expect(fit).toMatchObject({ xmin: 1, ksDistance: 1 / 3 });
    expect(fit.alpha).toBeCloseTo(1 + 6 / (4 * Math.LN2), 14);
  });
});

describe("spectralMeasures", () => {
  it("agrees with htlib on noise", () => {
    // htlib.student.probes.spectral_measures(SingularSystem(W), first unit vector, 1425.0), but for n_outliers, by hand
    const measures = spectralMeasures(factorise(GAUSSIAN, 450, 300), axis(300), 1425);
    const expected = {
      alignment: 0.036703842500760066,
      alpha_hill: 2.433111934036152,
      alpha_ks: 8.638549098106159,
      ks_distance: 0.13870604945198334,
      ks_xmin: 1071.9647057892846,
      stable_rank: 94.55880177655604,
      spectral_norm: 37.798429838408495,
      n_outliers: 1,
    };
    expect(Object.keys(measures)).toEqual(Object.keys(expected));
    const ratios = Object.entries(expected).map(([name, x]) => (measures[name as keyof typeof measures] ?? NaN) / x);
    for (const ratio of ratios) expect(ratio).toBeCloseTo(1, 10);
  });

  it("has no exponents of a spectrum of equals", () => {
    const measures = spectralMeasures(factorise(matrix(6, 4, (i, j) => (i === j ? 1 : 0)), 6, 4), axis(4), 0.5);
    expect(measures).toMatchObject({ alpha_hill: null, alpha_ks: null, ks_distance: null, ks_xmin: null });
    expect(measures).toMatchObject({ stable_rank: 4, spectral_norm: 1, n_outliers: 4 });
  });

  it("has no exponents of fewer than three positive values, and ignores zeros beside more", () => {
    const diagonal = (...values: number[]): SingularSystem =>
      factorise(matrix(5, 5, (i, j) => (i === j ? Math.sqrt(values[i]) : 0)), 5, 5);
    expect(spectralMeasures(diagonal(0, 0, 0, 4, 9), axis(5), 4)).toMatchObject({ alpha_ks: null, n_outliers: 1 });
    // hill_alpha([1, 4, 16]): 1 + 2 / ln 4
    expect(spectralMeasures(diagonal(0, 0, 1, 4, 16), axis(5), 20).alpha_hill).toBeCloseTo(1 + 1 / Math.LN2, 12);
  });

  it("has no Hill exponent where the upper half is constant, and a fit all the same", () => {
    const system = { eigenvalues: spectrum(1, 2, 3, 3), vectors: Float64Array.from({ length: 16 }, () => 0.5) };
    const measures = spectralMeasures(system, axis(4), 10);
    expect(measures.alpha_hill).toBeNull();
    expect(measures.alpha_ks).not.toBeNull();
  });

  it("aligns with a direction whatever its sign and length", () => {
    const system = factorise(matrix(3, 2, (i, j) => [[0, 5], [1, 0], [0, 0]][i][j]), 3, 2);
    expect(spectralMeasures(system, Float32Array.of(3, -4), 1).alignment).toBeCloseTo(0.8, 14);
  });
});

it("stableRank is the sum over the largest", () => {
  expect(stableRank(spectrum(1, 1, 2))).toBe(2);
});

it("overlaps have the first matrix in their rows, the leading vector first", () => {
  // htlib.singular_vector_overlaps(W, M, 2).right
  const W = factorise(Float32Array.of(3, 1, 0, 0, 2, 1, 1, 0, 1, 2, 2, 0), 4, 3);
  const M = factorise(Float32Array.of(1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0), 4, 3);
  const result = overlaps(W, M, 2);
  expect(result).toHaveLength(2);
  expect(distance(result[0], [0.33501724964619023, 0.013112531760091336])).toBeLessThan(1e-12);
  expect(distance(result[1], [0.5379866199481933, 0.12929256523429236])).toBeLessThan(1e-12);
});
