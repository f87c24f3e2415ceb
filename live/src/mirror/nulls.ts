// The measures of Gaussian noise beside those of a layer, draw for draw those of htlib.analyze.
// Source: htlib/spectra/nulls.py, and _LayerNulls in htlib/models/table.py.

import { tridiagonalEigenvalues } from "../checkpoint/tridiagonal";
import { Generator } from "../random";
import { type SpectrumMeasures, spectrumMeasures } from "./measures";

const NAMES = [
  "alpha_hill", "alpha_ks", "ks_distance", "stable_rank", "effective_rank", "entropy", "spectral_norm",
] as const;
type Name = (typeof NAMES)[number];

/** By measure, its value in every replicate. */
export type Replicates = Record<Name, number[]>;
export type Verdict = "heavier than noise" | "as noise" | "lighter than noise" | "";
export type NullColumns = { verdict: Verdict; alpha_hill_null: number } & Record<`${Name}_z` | `${Name}_percentile`, number>;

const FAR = 3; // standard deviations of the null
const REPLICATES = 20;
const SEED = 0;

/** Measure Gaussian matrices of one shape and unit variance, `count` of which are pooled. */
export function replicates(h: number, d: number, count: number): Replicates {
  const [k, m] = [Math.min(h, d), Math.max(h, d)];
  const random = new Generator([SEED, k, m, count]);
  const result = Object.fromEntries(NAMES.map((name) => [name, [] as number[]])) as Replicates;
  for (let i = 0; i < REPLICATES; i++) {
    const spectra = Array.from({ length: count }, () => gaussianEsd(k, m, random));
    const measures = spectrumMeasures(Float64Array.from(spectra.flatMap((values) => [...values])).sort());
    for (const name of NAMES) result[name].push(measures[name]);
  }
  return result;
}

/** Draw the ESD of a Gaussian matrix with its exact distribution (Silverstein 1985; Dumitriu & Edelman 2002). */
export function gaussianEsd(k: number, m: number, random: Generator): Float64Array {
  const diagonal = Float64Array.from({ length: k }, (_, i) => Math.sqrt(random.chiSquared(m - i)));
  const below = Float64Array.from({ length: k - 1 }, (_, i) => Math.sqrt(random.chiSquared(k - 1 - i)));
  const squares = diagonal.map((x, i) => x ** 2 + (i > 0 ? below[i - 1] ** 2 : 0));
  return tridiagonalEigenvalues(squares, below.map((x, i) => x * diagonal[i])).map((x) => Math.max(x, 0));
}

/** Return the columns that compare the measures of a layer with those of its replicates. */
export function againstNull(
  measures: SpectrumMeasures,
  shape: readonly [number, number],
  count: number,
  noise: Replicates,
): NullColumns {
  const [h, d] = shape;
  const norm = measures.spectral_norm / (measures.frobenius_norm / Math.sqrt(h * d * count)); // of unit variance
  const columns: Record<string, number> = {};
  for (const name of NAMES) {
    const value = name === "spectral_norm" ? norm : measures[name];
    const known = noise[name].filter(Number.isFinite);
    const n = known.length;
    const mean = known.reduce((total, x) => total + x, 0) / n;
    const std = Math.sqrt(known.reduce((total, x) => total + (x - mean) ** 2, 0) / (n - 1));
    const below = known.filter((x) => x < value).length + known.filter((x) => x === value).length / 2;
    columns[`${name}_z`] = Number.isFinite(value) && std > 0 ? (value - mean) / std : NaN;
    columns[`${name}_percentile`] = n && !Number.isNaN(value) ? (100 * (below + 0.5)) / (n + 1) : NaN;
    if (name === "alpha_hill") columns["alpha_hill_null"] = n ? mean : NaN;
  }
  const z = columns["alpha_hill_z"];
  const verdict = Number.isNaN(z) ? "" : z < -FAR ? "heavier than noise" : z > FAR ? "lighter than noise" : "as noise";
  return { verdict, ...columns } as NullColumns;
}
