// The solver on a matrix in memory, for tests and benchmarks; the page gives it the blocks of a file.

import type { Solver } from "../../src/checkpoint/solver";

/** Eigenvalues of R R^T, R (n, length) row-major. */
export function eigenvaluesOfRows(solver: Solver, R: Float64Array, n: number): Float64Array {
  const length = R.length / n;
  solver.begin(n);
  const { values, width } = solver.block();
  for (let begin = 0; begin < length; begin += width) {
    values.fill(0);
    for (let i = 0; i < n; i++) values.set(R.subarray(i * length + begin, i * length + Math.min(length, begin + width)), i * width);
    solver.add();
  }
  return solver.eigenvalues();
}
