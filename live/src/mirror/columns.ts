// The columns of htlib's tables, without what computes them: for the page, which only shows them.
// Source: htlib/models/table.py (_LayerNulls.columns), htlib/spectra/nulls.py (against_null), htlib/models/comparison.py.

import type { SpectrumMeasures } from "./measures";
import type { NullColumns, Replicates, Verdict } from "./nulls";

export const NULL_MEASURES = [
  "alpha_hill", "alpha_ks", "ks_distance", "stable_rank", "effective_rank", "entropy", "spectral_norm",
] as const;

/** The columns of htlib.analyze, in its order. */
export const COLUMNS = [
  "name", "kind", "shape", "n_matrices", "dtype", "file", "rank",
  "alpha_hill", "alpha_ks", "alpha_error", "ks_distance", "ks_xmin", "n_tail", "spectral_norm", "frobenius_norm",
  "stable_rank", "effective_rank", "entropy", "alpha_weighted", "log_alpha_norm",
  "has_bulk", "mp_variance", "mp_edge", "mp_ks_distance", "n_spikes", "soft_rank",
  "verdict", "alpha_hill_null",
  ...NULL_MEASURES.flatMap((name) => [`${name}_z`, `${name}_percentile`]),
];

/** Those of htlib.compare_models that need no singular vectors. */
export const CHANGES = [
  "name", "kind", "shape", "relative_change", "alpha_hill_before", "spectral_norm_before",
  "alpha_hill_after", "spectral_norm_after", "update_stable_rank", "update_n_spikes",
];

const FAR = 3; // standard deviations of the null

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
  for (const name of NULL_MEASURES) {
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
  const far: Verdict = z < -FAR ? "heavier than noise" : z > FAR ? "lighter than noise" : "as noise";
  return { verdict: Number.isNaN(z) ? "" : far, ...columns } as NullColumns;
}
