// The pooled spectrum of the matrices of a layer.
// Source: htlib/spectra/eigenvalues.py (esd), and Layer in htlib/models/layers.py.

import { type Numbers, TYPES } from "../checkpoint/numbers";
import type { Solver } from "../checkpoint/solver";
import { singularValues } from "../checkpoint/tridiagonal";
import type { Part } from "./layers";
import { sum } from "./measures";

const ILL = 1e-10; // ratio of extreme eigenvalues below which the Gram matrix has lost the small ones to rounding
const SINGLE = 2 ** -23;

/** Return the ascending raw ESD; values that rounding of the entries can explain are zero. */
export function spectrumOf(part: Part, data: Numbers, dtype: string, solver: Solver): Float64Array {
  const { count, shape: [h, d], strides, offset } = part;
  const { eps } = TYPES[dtype];
  const computed = TYPES[dtype].width === 1 ? SINGLE : eps; // numbers of eight bits are computed with in float32
  const pooled = new Float64Array(count * Math.min(h, d));
  for (let b = 0; b < count; b++) {
    const matrix = { h, d, row: strides[1], column: strides[2], offset: offset + b * strides[0], data };
    pooled.set(esd(matrix, dtype === "float64", computed, solver), b * Math.min(h, d));
  }
  pooled.sort();
  // the largest eigenvalue of a matrix with one rounding error in each entry
  const error = eps * (Math.sqrt(h) + Math.sqrt(d));
  const least = error ** 2 * (sum(pooled) / (count * h * d));
  return pooled.map((x) => (x > least ? x : 0));
}

interface View {
  h: number;
  d: number;
  row: number;
  column: number;
  offset: number;
  data: Numbers;
}

function esd(matrix: View, double: boolean, eps: number, solver: Solver): Float64Array {
  const { h, d } = matrix;
  const n = Math.min(h, d);
  solver.begin(n);
  accumulate(matrix, solver);
  const { values: product, stride } = solver.product();
  for (let i = 0; i < n; i++)
    if (!Number.isFinite(product[i * (stride + 1)]))
      throw new RangeError("the squared singular values overflow float64; rescale the matrix");
  let eigenvalues = solver.eigenvalues();
  if (eigenvalues[0] < ILL * eigenvalues[n - 1]) {
    const long = Math.max(h, d) * Number.EPSILON;
    if (double) {
      const s = singularValues(upright(matrix), Math.max(h, d), n);
      eigenvalues = s.map((x) => (x > long * s[0] ? x ** 2 : 0)).reverse();
    } else eigenvalues = eigenvalues.map((x) => (x > long * eigenvalues[n - 1] ? x : 0));
  }
  return equalised(eigenvalues, h, d, eps);
}

/** Add up the smaller of W^T W and W W^T. */
function accumulate({ h, d, row, column, offset, data }: View, solver: Solver): void {
  const [n, length] = [Math.min(h, d), Math.max(h, d)];
  const [across, along] = h >= d ? [column, row] : [row, column];
  const { values, width } = solver.block();
  for (let begin = 0; begin < length; begin += width) {
    const columns = Math.min(width, length - begin);
    if (columns < width) values.fill(0);
    for (let i = 0; i < n; i++) {
      let at = offset + i * across + begin * along;
      for (let c = 0, to = i * width; c < columns; c++, at += along) values[to + c] = data[at];
    }
    solver.add();
  }
}

/** Return the matrix, or its transpose, with its longer side as rows. */
function upright({ h, d, row, column, offset, data }: View): Float64Array {
  const [n, length] = [Math.min(h, d), Math.max(h, d)];
  const [across, along] = h >= d ? [column, row] : [row, column];
  return Float64Array.from({ length: n * length }, (_, k) => data[offset + Math.floor(k / n) * along + (k % n) * across]);
}

/** Make the positive values equal if rounding explains their spread; see the source for the constants. */
function equalised(eigenvalues: Float64Array, h: number, d: number, eps: number): Float64Array {
  const [m, k] = [Math.max(h, d), Math.min(h, d)];
  const values = eigenvalues.filter((x) => x > 0);
  const largest = values[values.length - 1];
  const rounding = 4 * (1.2 * eps * Math.sqrt(k / m) + 2 * Math.min(eps, SINGLE) * Math.sqrt(m));
  if (values.length < 3 || largest - values[0] > rounding * largest) return eigenvalues;
  const mean = sum(values) / values.length;
  return eigenvalues.map((x) => (x > 0 ? mean : 0));
}
