// The spectrum of pure noise: the Marchenko-Pastur law and the Tracy-Widom edge.
// Source: htlib/spectra/noise.py.

export { MarchenkoPastur } from "../../../htlib/explorer/static/layers/marchenko_pastur.js";

/** Return the quantile at probability q of the largest eigenvalue of W^T W for Gaussian W, (h, d) (Johnstone 2001). */
export function largestEigenvalueQuantile(h: number, d: number, q: number, variance: number): number {
  const [k, m] = [Math.min(h, d), Math.max(h, d)];
  if (k === 1) return variance * chiSquaredQuantile(q, m);
  const [a, b] = [Math.sqrt(m - 1), Math.sqrt(k)];
  return variance * ((a + b) ** 2 + (a + b) * (1 / a + 1 / b) ** (1 / 3) * tracyWidomQuantile(q));
}

const quantiles = new Map<number, number>();

/** Return the quantile of the Tracy-Widom law for real matrices (beta = 1); q must be at least 0.97. */
export function tracyWidomQuantile(q: number): number {
  let found = quantiles.get(q);
  if (found === undefined) quantiles.set(q, (found = bisect((s) => tracyWidomCdf(s) - q, 1, 14)));
  return found;
}

const NODES = 60;
let legendre: { x: Float64Array; w: Float64Array } | null = null;

/** F_1(s) = det(1 - Ai(x + y + s)) on x, y > 0 (Ferrari & Spohn 2005), by quadrature (Bornemann 2010); s > 0. */
function tracyWidomCdf(s: number): number {
  legendre ??= gaussLegendre(NODES);
  const length = Math.max(1, 16 - s) / 2;
  const x = legendre.x.map((node) => (length * (node + 1)) / 2);
  const w = legendre.w.map((weight) => Math.sqrt((length * weight) / 2));
  const A = Array.from({ length: NODES }, () => new Float64Array(NODES));
  for (let i = 0; i < NODES; i++)
    for (let j = 0; j <= i; j++) {
      A[i][j] = A[j][i] = (i === j ? 1 : 0) - w[i] * airy(x[i] + x[j] + s) * w[j];
    }
  let determinant = 1; // the matrix is positive definite, so no pivots are needed
  for (let k = 0; k < NODES; k++) {
    determinant *= A[k][k];
    for (let i = k + 1; i < NODES; i++) {
      const factor = A[i][k] / A[k][k];
      for (let j = k + 1; j < NODES; j++) A[i][j] -= factor * A[k][j];
    }
  }
  return determinant;
}

/** Return Ai(x) for x > 0, by K_{1/3} as an integral, for which the trapezoidal rule is exact to rounding. */
function airy(x: number): number {
  const z = (2 / 3) * x * Math.sqrt(x);
  const step = 0.2;
  let total = Math.exp(-z) / 2;
  for (let t = step; t < 6; t += step) total += Math.exp(-z * Math.cosh(t)) * Math.cosh(t / 3);
  return (Math.sqrt(x / 3) / Math.PI) * total * step;
}

function gaussLegendre(n: number): { x: Float64Array; w: Float64Array } {
  const [x, w] = [new Float64Array(n), new Float64Array(n)];
  for (let i = 0; i < n; i++) {
    let node = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 1;
    for (let turn = 0; turn < 8; turn++) {
      let [p, before] = [1, 0];
      for (let k = 1; k <= n; k++) [p, before] = [((2 * k - 1) * node * p - (k - 1) * before) / k, p];
      slope = (n * (node * p - before)) / (node * node - 1);
      node -= p / slope;
    }
    x[i] = node;
    w[i] = 2 / ((1 - node * node) * slope * slope);
  }
  return { x, w };
}

function chiSquaredQuantile(q: number, m: number): number {
  return bisect((x) => lowerGamma(m / 2, x / 2) - q, m, m + 40 * Math.sqrt(m) + 80);
}

/** Return the regularised lower incomplete gamma function by its power series. */
function lowerGamma(a: number, x: number): number {
  let term = 1;
  let total = 1;
  for (let n = 1; term > 1e-17 * total; n++) total += term *= x / (a + n);
  return total * Math.exp(a * Math.log(x) - x - logGamma(a + 1));
}

/** Stirling's series, from 12 on right to rounding. */
function logGamma(a: number): number {
  let shift = 0;
  while (a < 12) shift += Math.log(a++);
  const b = 1 / (a * a);
  const series = (1 / 12 - b * (1 / 360 - b * (1 / 1260 - b / 1680))) / a;
  return (a - 0.5) * Math.log(a) - a + Math.log(2 * Math.PI) / 2 + series - shift;
}

/** Return the root of an increasing function. */
function bisect(f: (x: number) => number, low: number, high: number): number {
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    if (f(middle) < 0) low = middle;
    else high = middle;
  }
}
