// Singular values and vectors of a weight matrix, and the measures that follow from them.
// Source: htlib/spectra/eigenvalues.py, htlib/spectra/vectors.py and METRICS in htlib/student/probes.py.

import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { fitPowerLaw, hillAlpha } from "./power_law";

/** Right singular vectors of W and the squares of its singular values, both ascending. */
export interface SingularSystem {
  eigenvalues: Float64Array;
  /** Row-major, (d, d): row i is the unit vector of eigenvalue i, or zeros if that is zero within rounding. */
  vectors: Float64Array;
}

/** null where htlib has no finite number because the spectrum has no tail. */
export interface SpectralMeasures {
  alignment: number;
  alpha_hill: number | null;
  alpha_ks: number | null;
  ks_distance: number | null;
  ks_xmin: number | null;
  stable_rank: number;
  spectral_norm: number;
  n_outliers: number;
}

// Below this ratio of extreme eigenvalues the Gram matrix has lost the small ones to rounding.
const GRAM_CONDITION = 1e-10;
// Above this share of the largest, an eigenvalue of a Gram matrix has ten correct digits.
const RESOLVED = 1e-5;
const ROWS_AT_ONCE = 4;

/** Return the singular system of a finite (h, d) matrix, d <= h. */
export function factorise(W: Float32Array, h: number, d: number): SingularSystem {
  const system = decompose(gram(W, h, d), d);
  const exact = system.eigenvalues[0] >= GRAM_CONDITION * system.eigenvalues[d - 1];
  return exact ? system : resolved(system, W, h, d);
}

/**
 * Compute what the Gram matrix has lost: restrict W to the vectors of the small eigenvalues, where the large ones hide
 * nothing, and repeat this down to rounding noise, which becomes zero.  (The SVD of ml-matrix 6.15.1 does not end for
 * some matrices of exactly rank one.)
 */
function resolved(system: SingularSystem, W: Float32Array, h: number, d: number): SingularSystem {
  const eigenvalues = system.eigenvalues.slice();
  const vectors = system.vectors.slice();
  const noise = (h * Number.EPSILON) ** 2 * eigenvalues[d - 1];
  const matrix = Matrix.from1DArray(h, d, W);
  let count = d; // number of eigenvalues that are not yet resolved
  while (eigenvalues[count - 1] > noise) {
    const enough = RESOLVED * eigenvalues[count - 1];
    count = eigenvalues.findIndex((x) => x >= enough);
    if (count === 0) break;
    const basis = Matrix.from1DArray(count, d, vectors.subarray(0, count * d));
    const images = Float64Array.from(matrix.mmul(basis.transpose()).to1DArray());
    const small = decompose(gram(images, h, count), count);
    eigenvalues.set(small.eigenvalues);
    vectors.set(Matrix.from1DArray(count, count, small.vectors).mmul(basis).to1DArray());
  }
  const zeros = eigenvalues.findIndex((x) => x > noise);
  return { eigenvalues: eigenvalues.fill(0, 0, zeros), vectors: vectors.fill(0, 0, zeros * d) };
}

/** Return W^T W in float64, (d, d). */
export function gram(W: Float32Array | Float64Array, h: number, d: number): Float64Array {
  const blocks = Math.ceil(h / ROWS_AT_ONCE);
  const rows = new Float64Array(blocks * ROWS_AT_ONCE * d); // rows of zeros fill the last block
  rows.set(W);
  const product = new Float64Array(d * d);
  for (let block = 0; block < blocks; block++) {
    const a = block * ROWS_AT_ONCE * d;
    const b = a + d;
    const c = b + d;
    const e = c + d;
    for (let i = 0; i < d; i++) {
      const ai = rows[a + i];
      const bi = rows[b + i];
      const ci = rows[c + i];
      const ei = rows[e + i];
      for (let j = 0; j <= i; j++) {
        product[i * d + j] += ai * rows[a + j] + bi * rows[b + j] + ci * rows[c + j] + ei * rows[e + j];
      }
    }
  }
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < i; j++) product[j * d + i] = product[i * d + j];
  }
  return product;
}

/** Return eigenvalues and eigenvectors of a Gram matrix; eigenvalues that are negative by rounding become 0. */
export function decompose(gram: Float64Array, d: number): SingularSystem {
  // a shift of the size of the rounding, because with denormal numbers ml-matrix loses the orthogonality of a null space
  const shift = Number.EPSILON * largestOnDiagonal(gram, d);
  const shifted = Matrix.from1DArray(d, d, gram.map((x, i) => (i % (d + 1) === 0 ? x + shift : x)));
  const result = new EigenvalueDecomposition(shifted, { assumeSymmetric: true });
  return {
    eigenvalues: Float64Array.from(result.realEigenvalues, (x) => Math.max(0, x - shift)),
    vectors: Float64Array.from(result.eigenvectorMatrix.transpose().to1DArray()),
  };
}

function largestOnDiagonal(A: Float64Array, d: number): number {
  return A.reduce((largest, x, i) => (i % (d + 1) === 0 ? Math.max(largest, x) : largest), 0);
}

export function spectralMeasures(
  system: SingularSystem,
  teacherDirection: Float32Array,
  edge: number,
): SpectralMeasures {
  const { eigenvalues } = system;
  const positive = eigenvalues.filter((x) => x > 0);
  const hasTail = positive.length >= 3 && positive[0] < positive[positive.length - 1];
  const hill = hasTail ? hillAlpha(positive) : Infinity;
  const fit = hasTail ? fitPowerLaw(positive) : null;
  return {
    alignment: cosine(leading(system, 0), teacherDirection),
    alpha_hill: Number.isFinite(hill) ? hill : null,
    alpha_ks: fit && fit.alpha,
    ks_distance: fit && fit.ksDistance,
    ks_xmin: fit && fit.xmin,
    stable_rank: stableRank(eigenvalues),
    spectral_norm: Math.sqrt(eigenvalues[eigenvalues.length - 1]),
    n_outliers: eigenvalues.filter((x) => x > edge).length,
  };
}

/** Return |W|_F^2 / |W|_2^2. */
export function stableRank(eigenvalues: Float64Array): number {
  const largest = eigenvalues[eigenvalues.length - 1];
  return eigenvalues.reduce((sum, x) => sum + x / largest, 0);
}

/** Return squared inner products of the k leading vectors, largest first; rows belong to the first system. */
export function overlaps(first: SingularSystem, second: SingularSystem, k: number): number[][] {
  const ranks = Array.from({ length: k }, (_, rank) => rank);
  return ranks.map((i) => ranks.map((j) => dot(leading(first, i), leading(second, j)) ** 2));
}

/** Return a vector by the rank of its eigenvalue; rank 0 is the largest. */
function leading({ vectors, eigenvalues }: SingularSystem, rank: number): Float64Array {
  const d = eigenvalues.length;
  return vectors.subarray((d - 1 - rank) * d, (d - rank) * d);
}

function cosine(v: Float64Array, w: Float32Array): number {
  return Math.min(1, Math.abs(dot(v, w)) / Math.sqrt(dot(v, v) * dot(w, w)));
}

function dot(v: Float64Array | Float32Array, w: Float64Array | Float32Array): number {
  let sum = 0;
  for (let i = 0; i < v.length; i++) sum += v[i] * w[i];
  return sum;
}
