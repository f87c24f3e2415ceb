// Read and search the stored runs.  htlib/explorer/stored_runs.py packs them and describes the file.

import type { Config, RateMap, Settings, Snapshot } from "./protocol";

type Chosen = "optimizer" | "lr" | "labels" | "seed";

export interface StoredRun extends Pick<Settings, Chosen> {
  diverged_at: number | null;
  /** Along the steps. */
  metrics: Record<string, (number | null)[]>;
  /** Ascending, for each step. */
  largest: number[][];
  /** For each step, the number of the first bin, then how many eigenvalues lie in it and in each following bin. */
  counts: number[][];
  /** The estimated share of saturated activations, for each step. */
  saturation: (number | null)[];
  /** Of some runs: for each step except the first, the cosines of leading singular vectors in hundredths, by rows. */
  overlaps?: number[][];
}

export interface StoredRuns {
  format: string;
  /** The settings that all runs share. */
  config: Omit<Config, Chosen>;
  largest_digits: number;
  bins_per_decade: number;
  runs: StoredRun[];
}

const FORMAT = "htlib-stored-runs-2";
const GZIP = 0x1f; // the first byte of a gzip file, with which no JSON begins
const FARTHEST = 0.26; // decades to the nearest rate; the rates of the paper's sizes are 0.25 apart

/** Decode the file, which some servers unzip before they send it. */
export async function read(data: ArrayBuffer): Promise<StoredRuns> {
  const zipped = new Uint8Array(data)[0] === GZIP;
  const stream = new Blob([data]).stream();
  let stored: StoredRuns;
  try {
    stored = await new Response(zipped ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).json();
  } catch (cause) {
    throw new Error("The file of stored runs is damaged, or another file.", { cause });
  }
  if (stored.format !== FORMAT) throw new Error(`The file of stored runs is not of the format ${FORMAT}.`);
  return stored;
}

/** Return the stored run nearest to these settings, or the reason why there is none. */
export function find({ config, runs }: StoredRuns, settings: Settings): StoredRun | string {
  for (const name of ["teacher", "noise_std", "feature_scale"] as const)
    if (settings[name] !== config[name]) return absent(name, settings[name]);
  for (const name of ["optimizer", "labels", "seed"] as const) {
    runs = runs.filter((run) => run[name] === settings[name]);
    if (!runs.length) return absent(name, settings[name]);
  }
  if (settings.steps > config.steps) return `No stored run has more than ${config.steps} steps.`;
  const distance = ({ lr }: StoredRun): number => Math.abs(Math.log10(lr / settings.lr));
  const nearest = runs.reduce((best, run) => (distance(run) < distance(best) ? run : best));
  if (distance(nearest) <= FARTHEST) return nearest;
  const rates = runs.map((run) => run.lr);
  const range = `${Math.min(...rates)} to ${Math.max(...rates)}`;
  return `No stored run of ${NAMES[settings.optimizer]} has a learning rate near ${settings.lr}: they go from ${range}.`;
}

export function configOf({ config }: StoredRuns, { optimizer, lr, labels, seed }: StoredRun, steps: number): Config {
  return { ...config, optimizer, lr, labels, seed, steps };
}

/** Return all snapshots up to a step, with the spread over seeds; the last has its spectrum. */
export function snapshots(stored: StoredRuns, run: StoredRun, steps: number): Snapshot[] {
  const runs = likewise(stored, run).filter(({ lr }) => lr === run.lr);
  const names = Object.keys(run.metrics);
  const last = Math.min(steps, run.largest.length - 1);
  return Array.from({ length: last + 1 }, (_, step) => ({
    step,
    metrics: Object.fromEntries(names.map((name) => [name, run.metrics[name][step]])),
    spread: Object.fromEntries(names.map((name) => [name, ends(runs.map((one) => one.metrics[name][step] ?? null))])),
    saturation: run.saturation[step],
    eigenvalues: step === last ? eigenvalues(stored, run.largest[step], run.counts[step]) : null,
    overlaps: step === last ? squares(run.overlaps?.[step - 1]) : null,
  }));
}

/** Return a metric at a step along all rates, over the seeds. */
export function rateMap(stored: StoredRuns, run: StoredRun, step: number, metric: string): RateMap {
  const runs = likewise(stored, run);
  const lr = [...new Set(runs.map((one) => one.lr))].sort((a, b) => a - b);
  const values = lr.map((rate) =>
    runs.filter((one) => one.lr === rate).map((one) => one.metrics[metric][step] ?? null),
  );
  return {
    lr,
    median: values.map(median),
    low: values.map((some) => ends(some)[0]),
    high: values.map((some) => ends(some)[1]),
  };
}

/** Return the runs that differ from this one at most in rate and seed. */
function likewise({ runs }: StoredRuns, { optimizer, labels }: StoredRun): StoredRun[] {
  return runs.filter((run) => run.optimizer === optimizer && run.labels === labels);
}

/** Ascending: zeros, which have no bin; then each bin, evenly spread over its logarithm; then the stored largest ones. */
function eigenvalues(stored: StoredRuns, largest: number[], [first, ...counts]: number[]): number[] {
  const { config, bins_per_decade } = stored;
  const binned = counts.flatMap((count, bin) =>
    Array.from({ length: count }, (_, i) => 10 ** ((first + bin + (i + 0.5) / count) / bins_per_decade)),
  );
  const size = Math.min(config.h, config.d);
  const all = [...Array<number>(size - binned.length).fill(0), ...binned];
  return [...all.slice(0, size - largest.length).map((value) => Math.min(value, largest[0])), ...largest];
}

function squares(cosines: number[] | undefined): number[][] | null {
  if (!cosines) return null;
  const k = Math.sqrt(cosines.length);
  return Array.from({ length: k }, (_, row) => cosines.slice(row * k, (row + 1) * k).map((hundredths) => (hundredths / 100) ** 2));
}

function ends(values: (number | null)[]): [number | null, number | null] {
  const known = values.filter((value) => value !== null);
  return known.length < values.length ? [null, null] : [Math.min(...known), Math.max(...known)];
}

function median(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null).sort((a, b) => a - b);
  const middle = known.length >> 1;
  if (known.length < values.length) return null;
  return known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
}

const NAMES: Record<string, string> = {
  noise_std: "label noise",
  feature_scale: "feature scale",
  adam: "Adam",
  gd: "gradient descent",
  signsgd: "SignSGD",
  muon: "Muon",
};

function absent(name: string, value: string | number): string {
  return `No stored run has the ${NAMES[name] ?? name} ${NAMES[value] ?? value}.`;
}
