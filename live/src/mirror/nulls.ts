// The measures of Gaussian noise, draw for draw those of htlib.analyze.
// Source: htlib/spectra/nulls.py (gaussian_esd), and _LayerNulls in htlib/models/table.py.

import { tridiagonalEigenvalues } from "../checkpoint/tridiagonal";
import { Generator } from "../random";
import { NULL_MEASURES } from "./columns";
import { spectrumMeasures } from "./measures";

type Name = (typeof NULL_MEASURES)[number];

/** By measure, its value in every replicate. */
export type Replicates = Record<Name, number[]>;
export type Verdict = "heavier than noise" | "as noise" | "lighter than noise" | "";
export type NullColumns = { verdict: Verdict; alpha_hill_null: number } & Record<`${Name}_z` | `${Name}_percentile`, number>;

const REPLICATES = 20;
const SEED = 0;

/** Measure Gaussian matrices of one shape and unit variance, `count` of which are pooled. */
export function replicates(h: number, d: number, count: number): Replicates {
  const [k, m] = [Math.min(h, d), Math.max(h, d)];
  const random = new Generator([SEED, k, m, count]);
  const result = Object.fromEntries(NULL_MEASURES.map((name) => [name, [] as number[]])) as Replicates;
  for (let i = 0; i < REPLICATES; i++) {
    const spectra = Array.from({ length: count }, () => gaussianEsd(k, m, random));
    const measures = spectrumMeasures(Float64Array.from(spectra.flatMap((values) => [...values])).sort());
    for (const name of NULL_MEASURES) result[name].push(measures[name]);
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
