// Eigenvalues of Gram matrices: WebAssembly's 128-bit vectors for the products and the Householder steps, QL after them.

import { NEGLIGIBLE, tridiagonalEigenvalues } from "./tridiagonal";

interface Kernels {
  memory: WebAssembly.Memory;
  gram(R: number, size: number, width: number, C: number): void;
  sweep(A: number, size: number, count: number, v: number, w: number, x: number, p: number): void;
}

const WIDTH = 128; // columns of a block of rows: a megabyte and a half at the longest side of a real layer
const PAGE = 2 ** 16;
const LINE = 16; // bytes of one vector register

/** Sums R R^T over blocks of columns of R in float64, and finds the eigenvalues of the sum. */
export class Solver {
  private readonly kernels: Kernels;
  private size = 0; // of the padded matrix: divisible by 4
  private n = 0;
  private C = 0;
  private R = 0;

  constructor(module: WebAssembly.Module) {
    this.kernels = new WebAssembly.Instance(module).exports as unknown as Kernels;
  }

  /** Begin with an (n, n) matrix of zeros. */
  begin(n: number): void {
    this.n = n;
    this.size = Math.ceil(n / 4) * 4;
    this.C = LINE;
    this.R = this.C + 8 * this.size * this.size;
    const end = this.R + 8 * this.size * Math.max(WIDTH, 4);
    const { memory } = this.kernels;
    const missing = Math.ceil((end - memory.buffer.byteLength) / PAGE);
    if (missing > 0) memory.grow(missing);
    new Float64Array(memory.buffer, this.C, this.size * this.size).fill(0);
  }

  /** Return the block that `add` takes, (rows, WIDTH) row-major and zero at first; rows beyond n must stay zero. */
  block(): { values: Float64Array; width: number } {
    return { values: new Float64Array(this.kernels.memory.buffer, this.R, this.size * WIDTH).fill(0), width: WIDTH };
  }

  /** Add the product of the block with its transpose. */
  add(): void {
    this.kernels.gram(this.R, this.size, WIDTH, this.C);
  }

  /** Return the lower triangle so far, row-major with `stride` numbers per row. */
  product(): { values: Float64Array; stride: number } {
    return { values: new Float64Array(this.kernels.memory.buffer, this.C, this.size * this.size), stride: this.size };
  }

  /** Return the ascending eigenvalues of the matrix, which is lost. */
  eigenvalues(): Float64Array {
    const { n, size } = this;
    const { values: A } = this.product();
    let largest = 0;
    for (let i = 0; i < n; i++) largest = Math.max(largest, A[i * size + i]);
    if (largest === 0) return new Float64Array(n);
    const scale = 2 ** -Math.round(Math.log2(largest)); // so that no square overflows
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) A[i * size + j] *= scale;
    const { diagonal, below } = this.tridiagonalise(A);
    return tridiagonalEigenvalues(diagonal, below).map((x) => x / scale);
  }

  /**
   * Householder steps from the last row upwards.  The update of one step is applied in the pass that multiplies the
   * matrix by the vector of the next, so the matrix is read and written once per step.
   */
  private tridiagonalise(A: Float64Array): { diagonal: Float64Array; below: Float64Array } {
    const { n, size } = this;
    const vectors = Array.from({ length: 4 }, (_, i) => this.R + 8 * size * i);
    let [v, w, x, p] = vectors.map((at) => ({ at, values: new Float64Array(A.buffer, at, size).fill(0) }));
    const diagonal = new Float64Array(n);
    const below = new Float64Array(n);
    for (let i = n - 1; i > 0; i--) {
      const row = A.subarray(i * size, i * size + i + 1);
      const [vi, wi] = [v.values[i], w.values[i]];
      let norm = 0;
      for (let c = 0; c < i; c++) {
        const value = row[c] - vi * w.values[c] - wi * v.values[c];
        x.values[c] = value;
        norm += value * value;
      }
      diagonal[i] = row[i] - 2 * vi * wi;
      norm = norm > NEGLIGIBLE ? Math.sqrt(norm) : 0;
      const head = x.values[i - 1];
      below[i - 1] = head > 0 ? -norm : norm;
      x.values[i - 1] = head - below[i - 1];
      const tau = norm > 0 ? 1 / (norm * (norm + Math.abs(head))) : 0;
      p.values.fill(0);
      this.kernels.sweep(this.C, size, i, v.at, w.at, x.at, p.at);
      let inner = 0;
      for (let c = 0; c < i; c++) inner += x.values[c] * p.values[c];
      const half = (tau * tau * inner) / 2;
      for (let c = 0; c < i; c++) p.values[c] = tau * p.values[c] - half * x.values[c];
      [v, w, x, p] = [x, p, v, w];
    }
    diagonal[0] = A[0] - 2 * v.values[0] * w.values[0];
    return { diagonal, below };
  }
}
