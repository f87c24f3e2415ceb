// Eigenvalues of symmetric tridiagonal matrices, and singular values, without vectors.

const MOST_TURNS = 60; // per eigenvalue; two or three are usual
/** A square below this is zero, in matrices that are scaled to one: the square of its inverse would overflow. */
export const NEGLIGIBLE = 1e-140;
const NOTHING = Number.EPSILON / 1024; // share of the norm below which an entry beside the diagonal is zero

/**
 * Return the ascending eigenvalues of a symmetric tridiagonal matrix by the QL algorithm with implicit shifts.  `below`
 * holds the entries beside the diagonal, one fewer.  Their error is rounding of the largest.
 */
export function tridiagonalEigenvalues(diagonal: Float64Array, below: Float64Array): Float64Array {
  const n = diagonal.length;
  const d = diagonal.slice();
  const e = new Float64Array(n);
  e.set(below.subarray(0, n - 1));
  const norm = Math.max(...[d, e].map((values) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)));
  for (let l = 0; l < n; l++) {
    for (let turn = 0; ; turn++) {
      let m = l;
      while (m < n - 1) {
        const size = Math.abs(d[m]) + Math.abs(d[m + 1]);
        if (Math.abs(e[m]) + size === size || Math.abs(e[m]) <= NOTHING * norm) break;
        m++;
      }
      if (m === l) break;
      if (turn === MOST_TURNS) throw new Error("the eigenvalues do not converge");
      const half = (d[l + 1] - d[l]) / (2 * e[l]);
      let g = d[m] - d[l] + e[l] / (half + Math.sign(half || 1) * Math.sqrt(half * half + 1));
      let s = 1;
      let c = 1;
      let p = 0;
      let i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i];
        const b = c * e[i];
        const r = Math.sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r === 0) {
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        const t = (d[i] - g) * s + 2 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
      }
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
  return d.sort();
}

/**
 * Return the descending singular values of a (rows, columns) matrix, row-major, with rows >= columns; the matrix is
 * overwritten.  Householder steps from both sides leave a bidiagonal matrix; the values are the upper half of the
 * eigenvalues of the tridiagonal matrix of Golub and Kahan, so small ones are right to rounding of the largest.
 */
export function singularValues(A: Float64Array, rows: number, columns: number): Float64Array {
  const largest = A.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  if (largest === 0) return new Float64Array(columns);
  const scale = 2 ** -Math.round(Math.log2(largest)); // so that no square overflows
  for (let i = 0; i < A.length; i++) A[i] *= scale;
  const entries = new Float64Array(2 * columns - 1); // of the bidiagonal matrix, in the order of Golub and Kahan
  const sums = new Float64Array(columns);
  for (let k = 0; k < columns; k++) {
    let norm = 0;
    for (let i = k; i < rows; i++) norm += A[i * columns + k] ** 2;
    norm = norm > NEGLIGIBLE ? Math.sqrt(norm) : 0;
    const head = A[k * columns + k];
    entries[2 * k] = head > 0 ? -norm : norm;
    if (norm > 0) {
      A[k * columns + k] = head - entries[2 * k];
      const tau = 1 / (norm * (norm + Math.abs(head)));
      sums.fill(0);
      for (let i = k; i < rows; i++) {
        const x = A[i * columns + k];
        for (let j = k + 1; j < columns; j++) sums[j] += x * A[i * columns + j];
      }
      for (let i = k; i < rows; i++) {
        const x = tau * A[i * columns + k];
        for (let j = k + 1; j < columns; j++) A[i * columns + j] -= x * sums[j];
      }
    }
    if (k === columns - 1) break;
    const row = A.subarray(k * columns, (k + 1) * columns);
    norm = 0;
    for (let j = k + 1; j < columns; j++) norm += row[j] ** 2;
    norm = norm > NEGLIGIBLE ? Math.sqrt(norm) : 0;
    const next = row[k + 1];
    entries[2 * k + 1] = next > 0 ? -norm : norm;
    if (norm === 0) continue;
    row[k + 1] = next - entries[2 * k + 1];
    const tau = 1 / (norm * (norm + Math.abs(next)));
    for (let i = k + 1; i < rows; i++) {
      let sum = 0;
      for (let j = k + 1; j < columns; j++) sum += row[j] * A[i * columns + j];
      sum *= tau;
      for (let j = k + 1; j < columns; j++) A[i * columns + j] -= sum * row[j];
    }
  }
  const values = tridiagonalEigenvalues(new Float64Array(2 * columns), entries);
  return values.subarray(columns).reverse().map((x) => Math.max(0, x) / scale);
}
