// Stored runs, answered at once.  htlib/explorer/stored_runs.py packs them and describes the format.

import type { Config, Metrics, RateMap, Settings, Snapshot } from "./protocol";

type Optimizer = Settings["optimizer"];

interface Scale {
  log: boolean;
  low: number;
  step: number;
  error: number;
}

export interface Header {
  optimizers: Optimizer[];
  /** Ascending, a list per optimizer. */
  rates: number[][];
  labels: string[];
  seeds: number[];
  steps: number;
  /** What all runs share. */
  config: Omit<Config, "optimizer" | "lr" | "labels" | "seed" | "steps">;
  /** Pairs of a run and the step at which it diverged. */
  diverged: [number, number][];
  metrics: (Scale & { name: string })[];
  /** Eigenvalues of a spectrum. */
  size: number;
  top: Scale & { count: number };
  bulk: Scale;
  knots: number;
  /** Largest relative error of any eigenvalue. */
  eigenvalue_error: number;
}

/** Indices of a stored run. */
export interface Place {
  optimizer: number;
  rate: number;
  labels: number;
  seed: number;
}

const MAGIC = "HTA1";
const LAST_WORD = 65533; // those above mean no number
const FARTHEST = 0.26; // decades to the nearest rate; the rates of the paper's sizes are 0.25 apart

export class Atlas {
  /** First snapshot of each run, and at the end how many there are. */
  private readonly first: number[] = [0];
  private readonly divergence: Map<number, number>;

  private constructor(
    readonly header: Header,
    private readonly metrics: Uint16Array,
    private readonly top: Uint16Array,
    /** First knot of each snapshot, and at the end how many there are. */
    private readonly knots: Uint32Array,
    private readonly gaps: Uint16Array,
    private readonly heights: Uint16Array,
  ) {
    this.divergence = new Map(header.diverged);
    for (let run = 0; run < runsOf(header); run++)
      this.first.push(this.first[run] + (this.divergence.get(run) ?? header.steps + 1));
  }

  /** Decode an atlas; servers that unzip it on the way do no harm. */
  static async read(data: ArrayBuffer): Promise<Atlas> {
    const content = isGzip(data) ? await unzipped(data) : data;
    const text = new TextDecoder();
    if (content.byteLength < 8 || text.decode(content.slice(0, 4)) !== MAGIC)
      throw new Error("These bytes are no atlas.");
    const start = 8 + new DataView(content).getUint32(4, true);
    const header = JSON.parse(text.decode(content.slice(8, start))) as Header;
    const runs = runsOf(header);
    const missing = header.diverged.reduce((sum, [, step]) => sum + header.steps + 1 - step, 0);
    const snapshots = runs * (header.steps + 1) - missing;
    const sizes = [
      header.metrics.length * runs * (header.steps + 1),
      snapshots * header.top.count,
      snapshots,
      header.knots,
      header.knots,
    ];
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const planes = new Uint8Array(content, start);
    if (planes.length !== 2 * total) throw new Error("The atlas is damaged: it has another length than it says.");
    const words = Uint16Array.from({ length: total }, (_, i) => (planes[i] << 8) | planes[total + i]);
    let end = 0;
    const [metrics, top, counts, gaps, heights] = sizes.map((size) => words.subarray(end, (end += size)));
    sumUp(metrics, header.steps + 1);
    sumUp(top, header.top.count);
    sumUp(heights, header.knots);
    const knots = new Uint32Array(snapshots + 1);
    for (let i = 0; i < snapshots; i++) knots[i + 1] = knots[i] + counts[i];
    return new Atlas(header, metrics, top, knots, gaps, heights);
  }

  /** The stored run nearest to these settings, or why there is none. */
  find(settings: Settings): Place | string {
    const { header } = this;
    for (const name of ["teacher", "noise_std", "feature_scale"] as const)
      if (settings[name] !== header.config[name]) return absent(name, settings[name]);
    const optimizer = header.optimizers.indexOf(settings.optimizer);
    if (optimizer < 0) return absent("optimizer", settings.optimizer);
    const labels = header.labels.indexOf(settings.labels);
    if (labels < 0) return absent("labels", settings.labels);
    const seed = header.seeds.indexOf(settings.seed);
    if (seed < 0) return absent("seed", settings.seed);
    if (settings.steps > header.steps) return `No stored run has more than ${header.steps} steps.`;
    const rates = header.rates[optimizer];
    const distances = rates.map((lr) => Math.abs(Math.log10(lr / settings.lr)));
    const rate = distances.indexOf(Math.min(...distances));
    if (!(distances[rate] <= FARTHEST)) {
      const range = `${rates[0]} to ${rates[rates.length - 1]}`;
      return `No stored run of ${NAMES[settings.optimizer]} has a learning rate near ${settings.lr}: they go from ${range}.`;
    }
    return { optimizer, rate, labels, seed };
  }

  config(place: Place, steps: number): Config {
    const { config, optimizers, rates, labels, seeds } = this.header;
    return {
      ...config,
      optimizer: optimizers[place.optimizer],
      lr: rates[place.optimizer][place.rate],
      labels: labels[place.labels],
      seed: seeds[place.seed],
      steps,
    };
  }

  /** All that were measured up to a step; the last has its spectrum. */
  snapshots(place: Place, steps: number): Snapshot[] {
    const run = this.run(place);
    const runs = this.header.seeds.map((_, seed) => this.run({ ...place, seed }));
    const last = Math.min(steps, (this.divergence.get(run) ?? Infinity) - 1);
    return Array.from({ length: last + 1 }, (_, step) => {
      const metrics: Metrics = {};
      const spread: NonNullable<Snapshot["spread"]> = {};
      this.header.metrics.forEach(({ name }, metric) => {
        metrics[name] = this.value(metric, run, step);
        spread[name] = ends(runs.map((one) => this.value(metric, one, step)));
      });
      const eigenvalues = step === last ? this.eigenvalues(this.first[run] + step) : null;
      return { step, metrics, spread, saturation: null, eigenvalues };
    });
  }

  divergedAt(place: Place): number | null {
    return this.divergence.get(this.run(place)) ?? null;
  }

  /** A metric at a step along all rates of an optimizer. */
  map(optimizer: Optimizer, labels: string, step: number, metric: string): RateMap {
    const { header } = this;
    const at = {
      optimizer: header.optimizers.indexOf(optimizer),
      labels: header.labels.indexOf(labels),
      metric: header.metrics.findIndex(({ name }) => name === metric),
    };
    if (Math.min(at.optimizer, at.labels, at.metric, step) < 0 || step > header.steps)
      throw new Error(`The atlas has no ${metric} of ${optimizer} with ${labels} labels after ${step} steps.`);
    const lr = header.rates[at.optimizer];
    const values = lr.map((_, rate) =>
      header.seeds.map((_, seed) => this.value(at.metric, this.run({ ...at, rate, seed }), step)),
    );
    return {
      lr: [...lr],
      median: values.map(median),
      low: values.map((some) => ends(some)[0]),
      high: values.map((some) => ends(some)[1]),
    };
  }

  private run({ optimizer, rate, labels, seed }: Place): number {
    const { header } = this;
    const before = header.rates.slice(0, optimizer).reduce((sum, rates) => sum + rates.length, 0);
    return ((before + rate) * header.labels.length + labels) * header.seeds.length + seed;
  }

  private value(metric: number, run: number, step: number): number | null {
    const { header } = this;
    return meaning(header.metrics[metric], this.metrics[(metric * runsOf(header) + run) * (header.steps + 1) + step]);
  }

  /** Ascending: the broken line through the knots, then the largest ones. */
  private eigenvalues(snapshot: number): number[] {
    const { bulk, size, top } = this.header;
    const largest = Array.from(
      this.top.subarray(snapshot * top.count, (snapshot + 1) * top.count),
      (word) => meaning(top, word) ?? NaN,
    );
    const first = this.knots[snapshot];
    const line = [this.heights[first]];
    for (let knot = first + 1; knot < this.knots[snapshot + 1]; knot++) {
      const [from, to, gap] = [this.heights[knot - 1], this.heights[knot], this.gaps[knot]];
      for (let i = 1; i <= gap; i++) line.push(from + ((to - from) * i) / gap);
    }
    const values = line.map((position) => Math.min(meaning(bulk, position) ?? NaN, largest[0] ?? Infinity));
    values.push(...largest);
    if (values.length !== size) throw new Error("The atlas is damaged: a spectrum has another length than it says.");
    return values;
  }
}

function runsOf({ rates, labels, seeds }: Header): number {
  return rates.flat().length * labels.length * seeds.length;
}

function isGzip(data: ArrayBuffer): boolean {
  const [first, second] = new Uint8Array(data, 0, Math.min(2, data.byteLength));
  return first === 0x1f && second === 0x8b;
}

async function unzipped(data: ArrayBuffer): Promise<ArrayBuffer> {
  try {
    return await new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  } catch (cause) {
    throw new Error("The atlas is damaged: it cannot be unzipped.", { cause });
  }
}

/** Undo differences along rows of a length, modulo 2^16 as they were taken. */
function sumUp(words: Uint16Array, length: number): void {
  for (let i = 0; i < words.length; i++) if (i % length) words[i] += words[i - 1];
}

function meaning({ log, low, step }: Scale, word: number): number | null {
  if (word > LAST_WORD) return null;
  const position = low + step * word;
  return log ? Math.exp(position) : position;
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
};

function absent(name: string, value: string | number): string {
  return `No stored run has the ${NAMES[name] ?? name} ${NAMES[value] ?? value}.`;
}
