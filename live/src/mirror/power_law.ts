// Exponents of the tail of a spectrum.
// Source: htlib/spectra/power_law.py and htlib/spectra/ks_scan.py.

export interface PowerLawFit {
  alpha: number;
  xmin: number;
  ksDistance: number;
  nTail: number;
  alphaError: number;
}

const ROUNDING = 1e-12; // logarithms that are closer than solvers of eigenvalue problems resolve

/** Tell whether ascending positive values differ by more than rounding of their computation. */
export function hasSpread(values: Float64Array): boolean {
  return Math.log(values[values.length - 1]) - Math.log(values[0]) > ROUNDING;
}

/** Return PL_Alpha_Hill of an ascending, positive spectrum: the exponent of its upper half, infinite if constant. */
export function hillAlpha(eigenvalues: Float64Array): number {
  const L = eigenvalues.subarray(eigenvalues.length >> 1).map(Math.log);
  if (!(L[L.length - 1] - L[0] > ROUNDING)) return Infinity;
  return 1 + L.length / L.reduce((sum, x) => sum + (x - L[0]), 0);
}

/**
 * Fit a power law above the threshold with the smallest Kolmogorov-Smirnov distance (Clauset, Shalizi & Newman 2009); of
 * equal distances, the smallest threshold counts.  The spectrum must be ascending and positive, and have a spread.
 */
export function fitPowerLaw(eigenvalues: Float64Array): PowerLawFit {
  const L = eigenvalues.map(Math.log);
  const N = L.length;
  let best = Infinity;
  let start = 0;
  let worst = N - 1; // where the last candidate was off by most: the next is often off by too much there
  let total = 0; // sum of L_j - L_i over the tail, from the top down so that no digits cancel
  for (let i = N - 2; i >= 0; i--) {
    total += (N - 1 - i) * (L[i + 1] - L[i]);
    // a threshold is the first of equal values, so that the tail is all that is not below it
    if (total === 0 || L[i] === L[i - 1]) continue;
    const slope = (N - i) / total;
    if (gap(L, i, worst, slope) > best) continue;
    let largest = 0;
    for (let j = i; j < N && largest <= best; j++) {
      const size = gap(L, i, j, slope);
      if (size > largest) [largest, worst] = [size, j];
    }
    if (largest <= best) [best, start] = [largest, i];
  }
  const tail = L.subarray(start);
  const slope = tail.length / tail.reduce((sum, x) => sum + (x - tail[0]), 0);
  let ksDistance = 0;
  for (let j = 0; j < tail.length; j++) ksDistance = Math.max(ksDistance, gap(tail, 0, j, slope));
  const alphaError = slope / Math.sqrt(tail.length);
  return { alpha: 1 + slope, xmin: eigenvalues[start], ksDistance, nTail: tail.length, alphaError };
}

/** Return the distance between 1 - exp(-slope (L_j - L_i)) and (j - i) / (N - i). */
function gap(L: Float64Array, i: number, j: number, slope: number): number {
  return Math.abs(Math.expm1(-slope * (L[j] - L[i])) + (j - i) / (L.length - i));
}
