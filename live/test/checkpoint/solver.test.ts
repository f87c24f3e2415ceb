// Oracle: eigenvalues known in closed form, ml-matrix, or a spectrum known by construction.

import { readFileSync } from "node:fs";
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { describe, expect, it } from "vitest";
import wabt from "wabt";
import { Solver } from "../../src/checkpoint/solver";
import { singularValues, tridiagonalEigenvalues } from "../../src/checkpoint/tridiagonal";
import { Generator } from "../../src/random";
import { eigenvaluesOfRows } from "./dense";

const path = new URL("../../src/checkpoint/kernels.wat", import.meta.url);
const text = (await wabt()).parseWat("kernels.wat", readFileSync(path, "utf8"), { simd: true });
const solver = new Solver(new WebAssembly.Module(Uint8Array.from(text.toBinary({}).buffer)));

const eigenvalues = (R: Float64Array, n: number): Float64Array => eigenvaluesOfRows(solver, R, n);

const close = (found: Float64Array, expected: ArrayLike<number>, tolerance: number): void => {
  expect(found.length).toBe(expected.length);
  const scale = Math.max(...Array.from(expected, Math.abs));
  Array.from(expected, (x, i) => expect(Math.abs(found[i] - x)).toBeLessThan(tolerance * scale));
};

describe("tridiagonalEigenvalues", () => {
  it("are those of the second difference", () => {
    // 2 - 2 cos(k pi / (n + 1))
    const n = 50;
    const found = tridiagonalEigenvalues(new Float64Array(n).fill(2), new Float64Array(n - 1).fill(-1));
    close(found, Array.from({ length: n }, (_, k) => 2 - 2 * Math.cos(((k + 1) * Math.PI) / (n + 1))), 1e-14);
  });

  it("are the diagonal where there is nothing beside it", () => {
    expect([...tridiagonalEigenvalues(Float64Array.of(3, 1, 2), new Float64Array(2))]).toEqual([1, 2, 3]);
    expect([...tridiagonalEigenvalues(Float64Array.of(5), new Float64Array(0))]).toEqual([5]);
  });
});

describe("Solver", () => {
  // even and odd sizes, sizes that are divisible by 4 and that are not, and lengths of more than one block
  it.each([[1, 1], [2, 3], [3, 2], [5, 7], [8, 130], [33, 129], [64, 300]])("agrees with ml-matrix at %i x %i", (n, length) => {
    const R = new Generator(n, 1).normals(n * length);
    const matrix = Matrix.from1DArray(n, length, R);
    const { realEigenvalues } = new EigenvalueDecomposition(matrix.mmul(matrix.transpose()), { assumeSymmetric: true });
    close(eigenvalues(R, n), realEigenvalues.sort((a, b) => a - b), 1e-13);
  });

  it("finds repeated values, zeros and values of any scale", () => {
    // rows of a Hadamard matrix of order 4 have the square 4; a row of zeros has 0
    const rows = [1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 0, 0, 0, 0];
    for (const scale of [1, 1e-140, 1e140])
      close(eigenvalues(Float64Array.from(rows, (x) => x * scale), 4), [0, 4, 4, 4].map((x) => x * scale * scale), 1e-14);
    expect([...eigenvalues(new Float64Array(12), 3)]).toEqual([0, 0, 0]);
  });
});

describe("matrices of low rank", () => {
  it("leave residues whose squares are no numbers, in both methods", () => {
    const row = new Generator(0, 1).normals(40);
    const A = Float64Array.from({ length: 40 * 60 }, (_, k) => (k % 60 === 0 ? Math.fround(6 + 1e-6 * row[Math.floor(k / 60)]) : 0));
    const square = A.reduce((sum, x) => sum + x * x, 0);
    close(eigenvalues(A, 40), [...new Array<number>(39).fill(0), square], 1e-14);
    for (const scale of [1, 1e-200, 1e200]) {
      const upright = Float64Array.from({ length: 2400 }, (_, k) => scale * A[(k % 40) * 60 + Math.floor(k / 40)]);
      close(singularValues(upright, 60, 40), [scale * Math.sqrt(square), ...new Array<number>(39).fill(0)], 1e-14);
    }
  });
});

describe("singularValues", () => {
  it("are one and zeros for a matrix of rank one", () => {
    const [u, v] = [new Generator(0, 1).normals(60), new Generator(0, 2).normals(40)];
    const norm = Math.sqrt(u.reduce((sum, x) => sum + x * x, 0) * v.reduce((sum, x) => sum + x * x, 0));
    const found = singularValues(Float64Array.from({ length: 2400 }, (_, k) => u[Math.floor(k / 40)] * v[k % 40]), 60, 40);
    close(found, [norm, ...new Array<number>(39).fill(0)], 1e-14);
  });

  it("finds what a Gram matrix loses", () => {
    // orthogonal columns of length 2, 2e-9 and 0
    const columns = [[1, 1, 1, 1], [1e-9, -1e-9, 1e-9, -1e-9], [0, 0, 0, 0]];
    const A = Float64Array.from({ length: 12 }, (_, k) => columns[k % 3][Math.floor(k / 3)]);
    const [first, second, third] = singularValues(A, 4, 3);
    expect(first).toBeCloseTo(2, 14);
    expect(Math.abs(second / 2e-9 - 1)).toBeLessThan(1e-6); // rounding of the largest, 4e-16
    expect(third).toBeLessThan(1e-15);
  });
});
