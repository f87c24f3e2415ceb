// Candidates for the eigenvalues of Gram matrices in the page, timed in turns: benchmarks/checkpoint.py runs this in Node.

import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import kernels from "../live/src/checkpoint/kernels.wat";
import { Solver } from "../live/src/checkpoint/solver";
import { tridiagonalEigenvalues } from "../live/src/checkpoint/tridiagonal";
import { Generator } from "../live/src/random";
import { eigenvaluesOfRows } from "../live/test/checkpoint/dense";

const solver = new Solver(new WebAssembly.Module(kernels));

/** The loops of kernels.wat in plain TypeScript: the same order of operations, one number at a time. */
function plain(R: Float64Array, n: number, length: number): Float64Array {
  const A = new Float64Array(n * n);
  for (let begin = 0; begin < length; begin += 128)
    for (let i = 0; i < n; i++)
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        const end = Math.min(length, begin + 128);
        for (let c = begin; c < end; c++) sum += R[i * length + c] * R[j * length + c];
        A[i * n + j] += sum;
      }
  const diagonal = new Float64Array(n);
  const below = new Float64Array(n - 1);
  let [v, w, x, p] = [0, 0, 0, 0].map(() => new Float64Array(n));
  for (let i = n - 1; i > 0; i--) {
    let norm = 0;
    for (let c = 0; c < i; c++) {
      x[c] = A[i * n + c] - v[i] * w[c] - w[i] * v[c];
      norm += x[c] * x[c];
    }
    diagonal[i] = A[i * n + i] - 2 * v[i] * w[i];
    norm = Math.sqrt(norm);
    const head = x[i - 1];
    below[i - 1] = head > 0 ? -norm : norm;
    x[i - 1] = head - below[i - 1];
    const tau = 1 / (norm * (norm + Math.abs(head)));
    p.fill(0);
    for (let r = 0; r < i; r++) {
      const [vr, wr, xr, row] = [v[r], w[r], x[r], r * n];
      let sum = 0;
      for (let c = 0; c < r; c++) {
        const a = (A[row + c] -= vr * w[c] + wr * v[c]);
        sum += a * x[c];
        p[c] += a * xr;
      }
      const a = (A[row + r] -= 2 * vr * wr);
      p[r] += sum + a * xr;
    }
    let inner = 0;
    for (let c = 0; c < i; c++) inner += x[c] * p[c];
    const half = (tau * tau * inner) / 2;
    for (let c = 0; c < i; c++) p[c] = tau * p[c] - half * x[c];
    [v, w, x, p] = [x, p, v, w];
  }
  diagonal[0] = A[0] - 2 * v[0] * w[0];
  return tridiagonalEigenvalues(diagonal, below);
}

const webassembly = (R: Float64Array, n: number): Float64Array => eigenvaluesOfRows(solver, R, n);

function mlMatrix(R: Float64Array, n: number, length: number): Float64Array {
  const rows = Matrix.from1DArray(n, length, R);
  const result = new EigenvalueDecomposition(rows.mmul(rows.transpose()), { assumeSymmetric: true });
  return Float64Array.from(result.realEigenvalues).sort();
}

const CANDIDATES = { "WebAssembly, 128-bit vectors": webassembly, "the same loops in TypeScript": plain, "ml-matrix": mlMatrix };
const [turns, ...sizes] = process.argv.slice(2).map(Number);
const results: Record<string, Record<string, number[]>> = {};
for (const n of sizes) {
  const R = new Generator(0, 1).normals(n * n);
  const own: Record<string, number[]> = (results[n] = {});
  let exact: Float64Array | null = null;
  for (let turn = 0; turn < turns; turn++)
    for (const [name, candidate] of Object.entries(CANDIDATES)) {
      if (candidate === mlMatrix && n > 1000 && turn > 0) continue; // a minute each
      const began = performance.now();
      const found = candidate(R, n, n);
      (own[name] ??= []).push((performance.now() - began) / 1000);
      exact ??= found;
      if (found.some((x, i) => Math.abs(x - exact![i]) > 1e-11 * exact![n - 1])) throw new Error(`${name} is wrong at ${n}`);
    }
}
console.log(JSON.stringify(results));
