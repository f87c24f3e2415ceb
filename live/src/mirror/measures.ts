// All numbers of one spectrum; a number that is not defined is NaN.
// Source: htlib/spectra/measures.py and htlib/spectra/eigenvalues.py (stable_rank and what follows it).

import { fitPowerLaw, hasSpread, hillAlpha } from "./power_law";

export interface SpectrumMeasures {
  alpha_hill: number;
  alpha_ks: number;
  alpha_error: number;
  ks_distance: number;
  ks_xmin: number;
  n_tail: number;
  spectral_norm: number;
  frobenius_norm: number;
  stable_rank: number;
  effective_rank: number;
  entropy: number;
  alpha_weighted: number;
  log_alpha_norm: number;
}

/** Measure an ascending spectrum without negative values, not all of which are zero. */
export function spectrumMeasures(values: Float64Array): SpectrumMeasures {
  const positive = values.filter((x) => x > 0);
  const largest = positive[positive.length - 1];
  const fits = positive.length >= 3 && hasSpread(positive);
  const fit = fits ? fitPowerLaw(positive) : null;
  const alpha = fit ? fit.alpha : NaN;
  const logs = positive.map(Math.log10);
  const top = Math.log10(largest);
  const power = logs.reduce((sum, x) => sum + 10 ** (alpha * (x - top)), 0);
  const rank = positive.length;
  return {
    alpha_hill: fits ? hillAlpha(positive) : NaN,
    alpha_ks: alpha,
    alpha_error: fit ? fit.alphaError : NaN,
    ks_distance: fit ? fit.ksDistance : NaN,
    ks_xmin: fit ? fit.xmin : NaN,
    n_tail: fit ? fit.nTail : 0,
    spectral_norm: Math.sqrt(largest),
    frobenius_norm: Math.sqrt(sum(values)),
    stable_rank: sum(positive.map((x) => x / largest)),
    effective_rank: Math.exp(entropy(positive.map(Math.sqrt))),
    entropy: rank > 1 ? Math.min(1, entropy(positive) / Math.log(rank)) : 0,
    alpha_weighted: alpha * top,
    log_alpha_norm: alpha * top + Math.log10(power),
  };
}

export const sum = (values: Float64Array): number => values.reduce((total, x) => total + x, 0);

/** Return -sum p ln p of ascending weights, p = weight / sum. */
function entropy(weights: Float64Array): number {
  const shares = weights.map((x) => x / weights[weights.length - 1]);
  const total = sum(shares);
  return -shares.reduce((result, x) => (x / total > 0 ? result + (x / total) * Math.log(x / total) : result), 0);
}
