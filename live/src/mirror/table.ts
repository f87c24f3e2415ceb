// A row of htlib's tables for the weights of a model.
// Source: htlib/models/table.py, and _change in htlib/models/comparison.py.

import type { Numbers } from "../checkpoint/numbers";
import type { Solver } from "../checkpoint/solver";
import type { Entry, Tensor } from "./entries";
import type { Kind, Part } from "./layers";
import { type SpectrumMeasures, spectrumMeasures, sum } from "./measures";
import type { NullColumns } from "./nulls";
import { type BulkFit, fitMarchenkoPastur, NO_BULK } from "./spikes";
import { spectrumOf } from "./spectrum_of_layer";

export interface Description {
  name: string;
  kind: Kind;
  shape: readonly [number, number];
  n_matrices: number;
  dtype: string;
  file: string;
}
export type Row = Description & { rank: number } & SpectrumMeasures & BulkFit & Partial<NullColumns>;

/** Columns of htlib.compare_models that need no singular vectors. */
export interface Change {
  name: string;
  kind: Kind;
  shape: readonly [number, number];
  relative_change: number;
  alpha_hill_before: number;
  alpha_hill_after: number;
  spectral_norm_before: number;
  spectral_norm_after: number;
  update_stable_rank: number;
  update_n_spikes: number;
}

/** Measure one layer; also return its eigenvalues. */
export function rowOf(part: Part, tensor: Tensor, entry: Entry, solver: Solver): { row: Row; eigenvalues: Float64Array } {
  const { data, dtype } = tensor;
  const eigenvalues = spectrumOf(part, data, dtype, solver);
  const row = {
    name: part.name, kind: part.kind, shape: part.shape, n_matrices: part.count,
    dtype: entry.dtype ?? dtype, file: entry.file,
    rank: eigenvalues.filter((x) => x > 0).length,
    ...spectrumMeasures(eigenvalues),
    ...bulkOf(part, data, eigenvalues),
  };
  return { row, eigenvalues };
}

/** Compare one layer before and after, both cut in the same way. */
export function changeOf(before: [Part, Tensor], after: [Part, Tensor], solver: Solver): Change {
  const [part, { data }] = before;
  const old = dense(part, data);
  const change = dense(after[0], after[1].data).map((x, i) => x - old[i]);
  const [first, second] = [before, after].map(([own, tensor]) =>
    spectrumMeasures(spectrumOf(own, tensor.data, tensor.dtype, solver)),
  );
  const { name, kind, count, shape: [h, d] } = part;
  const own: Part = { ...part, strides: [h * d, d, 1], offset: 0 };
  const moved = count === 1 && change.some((x) => x !== 0);
  const spectrum = moved ? spectrumOf(own, change, "float64", solver) : null;
  const bulk = spectrum ? bulkOf(own, change, spectrum) : NO_BULK;
  const norm = (values: Float64Array): number => Math.sqrt(sum(values.map((x) => x * x)));
  return {
    name, kind, shape: part.shape,
    relative_change: norm(change) / norm(old),
    alpha_hill_before: first.alpha_hill, alpha_hill_after: second.alpha_hill,
    spectral_norm_before: first.spectral_norm, spectral_norm_after: second.spectral_norm,
    update_stable_rank: spectrum ? sum(spectrum) / spectrum[spectrum.length - 1] : NaN,
    update_n_spikes: bulk.has_bulk ? bulk.n_spikes : NaN,
  };
}

/** Tell whether all numbers of a part are equal to zero. */
export function isZero({ count, shape: [h, d], strides, offset }: Part, data: Numbers): boolean {
  for (let b = 0; b < count; b++)
    for (let i = 0; i < h; i++)
      for (let j = 0, at = offset + b * strides[0] + i * strides[1]; j < d; j++, at += strides[2])
        if (data[at] !== 0) return false;
  return true;
}

/** Fit the bulk of the rows and columns that are not zero in all matrices. */
function bulkOf({ count, shape: [h, d], strides, offset }: Part, data: Numbers, eigenvalues: Float64Array): BulkFit {
  const [rows, columns] = [new Uint8Array(h), new Uint8Array(d)];
  for (let b = 0; b < count; b++)
    for (let i = 0; i < h; i++)
      for (let j = 0, at = offset + b * strides[0] + i * strides[1]; j < d; j++, at += strides[2])
        if (data[at] !== 0) rows[i] = columns[j] = 1;
  const live = (flags: Uint8Array): number => flags.reduce((total, flag) => total + flag, 0);
  return fitMarchenkoPastur(eigenvalues, live(rows), live(columns), count);
}

/** Return the numbers of a part in float64, matrix by matrix and row by row. */
function dense({ count, shape: [h, d], strides, offset }: Part, data: Numbers): Float64Array<ArrayBuffer> {
  const result = new Float64Array(count * h * d);
  let to = 0;
  for (let b = 0; b < count; b++)
    for (let i = 0; i < h; i++)
      for (let j = 0, at = offset + b * strides[0] + i * strides[1]; j < d; j++, at += strides[2]) result[to++] = data[at];
  return result;
}
