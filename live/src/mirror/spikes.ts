// The Marchenko-Pastur bulk of a spectrum, and the eigenvalues beyond it.
// Source: htlib/spectra/spikes.py (fit_marchenko_pastur without a population).

import { largestEigenvalueQuantile, MarchenkoPastur } from "./noise";

export interface BulkFit {
  has_bulk: boolean;
  mp_variance: number;
  mp_edge: number;
  mp_ks_distance: number;
  n_spikes: number;
  soft_rank: number;
  /** Shape of the matrix whose noise the law describes, without the spikes. */
  law_shape: readonly [number, number] | null;
}

/** What there is where no bulk can be fitted. */
export const NO_BULK: BulkFit = {
  has_bulk: false, mp_variance: NaN, mp_edge: NaN, mp_ks_distance: NaN, n_spikes: NaN, soft_rank: NaN,
  law_shape: null,
};
const QUANTILE = 0.99;

/**
 * Fit the law to the ascending, pooled ESDs of matrices whose shape without rows and columns of zeros is (h, d).  Return
 * NO_BULK where htlib.fit_marchenko_pastur raises an error.
 */
export function fitMarchenkoPastur(eigenvalues: Float64Array, h: number, d: number, matrices: number): BulkFit {
  const size = matrices * Math.min(h, d);
  const beyond = eigenvalues.length - size;
  if (size < 1 || (beyond > 0 && eigenvalues[beyond - 1] > 1e-12 * eigenvalues[eigenvalues.length - 1])) return NO_BULK;
  const values = eigenvalues.subarray(Math.max(0, beyond));
  const N = values.length;
  const level = QUANTILE ** (1 / matrices);
  const half = Math.floor(N / 2);
  const seen = new Set<number>();
  let [count, lost, variance, edge] = [0, 0, 0, 0];
  do {
    // without k spikes, the rest is the noise of a matrix that is smaller by k on both sides
    lost = Math.floor(count / matrices);
    const bulk = values.subarray(0, N - count);
    const [low, high] = central(bulk.length);
    variance = mean(bulk.subarray(low, high)) / centralMean(h - lost, d - lost, bulk.length);
    if (!(variance > 0)) return NO_BULK;
    edge = largestEigenvalueQuantile(h - lost, d - lost, level, variance);
    seen.add(count);
    const last = edge;
    // the lower half always counts as bulk, so that there is one
    count = Math.min(values.reduce((n, x) => n + (x > last ? 1 : 0), 0), half);
  } while (!seen.has(count));
  const bulk = values.subarray(0, N - count);
  const unit = new MarchenkoPastur(h - lost, d - lost);
  let distance = -Infinity;
  bulk.forEach((x, i) => {
    const fitted = unit.cdf(x / variance); // nothing overflows at scale one
    distance = Math.max(distance, (i + 1) / bulk.length - fitted, fitted - i / bulk.length);
  });
  const [, end] = new MarchenkoPastur(h - lost, d - lost, variance).support;
  return {
    has_bulk: distance <= noiseDistance(Math.min(h, d) - lost, matrices) && count < Math.max(1, half),
    mp_variance: variance,
    mp_edge: edge,
    mp_ks_distance: distance,
    n_spikes: count,
    soft_rank: end / values[N - 1],
    law_shape: [h - lost, d - lost],
  };
}

function noiseDistance(k: number, matrices: number): number {
  return ((1 + (Math.SQRT2 / Math.PI) * Math.log(k)) / Math.sqrt(matrices) + 0.2) / k;
}

/** The bulk between the quartiles sets its scale. */
function central(count: number): [number, number] {
  const low = Math.floor(0.25 * count);
  return [low, Math.max(Math.floor(0.75 * count), low + 1)];
}

const means = new Map<string, number>();

function centralMean(h: number, d: number, count: number): number {
  const key = `${Math.min(h, d)} ${Math.max(h, d)} ${count}`;
  let found = means.get(key);
  if (found === undefined) means.set(key, (found = computedMean(h, d, count)));
  return found;
}

/** Interpolate quantiles in a grid, as the source does. */
function computedMean(h: number, d: number, count: number): number {
  const unit = new MarchenkoPastur(h, d);
  const [left, right] = unit.support;
  const grid = Float64Array.from({ length: 1001 }, (_, i) => left + (right - left) * Math.sin((Math.PI / 2) * (i / 1000)) ** 2);
  const levels = grid.map((x) => unit.cdf(x));
  const [low, high] = central(count);
  let at = 0;
  let total = 0;
  for (let i = low; i < high; i++) {
    const level = (i + 0.5) / count;
    while (at < 999 && levels[at + 1] < level) at++;
    total += grid[at] + ((level - levels[at]) / (levels[at + 1] - levels[at])) * (grid[at + 1] - grid[at]);
  }
  return total / (high - low);
}

const mean = (values: Float64Array): number => values.reduce((total, x) => total + x, 0) / values.length;
