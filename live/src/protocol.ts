// The requests of the explorer to an engine, and the answers.  htlib/explorer/messages.py describes them too.

export interface Settings {
  /** One of `choices.optimizer`. */
  optimizer: string;
  lr: number;
  steps: number;
  teacher: string;
  labels: string;
  noise_std: number;
  feature_scale: "paper" | "released-code";
  seed: number;
}

/** What a reader has chosen. */
export interface State {
  settings: Settings;
  train: boolean;
  /** The large picture. */
  panel: string;
  /** The settings of A, with which the run is compared. */
  pinned: Settings | null;
}

export interface Options {
  settings: Settings;
  choices: Record<string, (string | number)[]>;
  names: Record<string, string>;
  /** The fields of htlib's ExperimentConfig. */
  defaults: Record<string, unknown>;
  max_steps: number;
}

export interface Sizes {
  n: number;
  d: number;
  h: number;
  n_test: number;
}

export type Config = Settings & Sizes & { activation: string; ridge_lambda: number };

/** Columns of htlib's Trajectory.metrics; null where a number is not finite. */
export type Metrics = Record<string, number | null>;

export interface Snapshot {
  step: number;
  metrics: Metrics;
  /** Smallest and largest value over seeds, if several are known. */
  spread?: Record<string, [number | null, number | null]>;
  saturation: number | null;
  /** Ascending; null except in the last snapshot of a message. */
  eigenvalues: number[] | null;
  /** Squared inner products of the leading right singular vectors of W (rows) and of the update. */
  overlaps?: number[][] | null;
}

/** The spike of one step in closed form, at the requested rate and along rates. */
export interface SpikePrediction {
  critical_lr: number;
  spectral_norm: number;
  alignment: number;
  has_outlier: boolean;
  curve: { lr: number[]; spectral_norm: number[]; alignment: number[] };
}

/** The law of the bulk after one step; the density is that of all eigenvalues, with the spike. */
export interface Bulk {
  x: number[];
  density: number[];
  edge: number;
}

export interface Prediction extends SpikePrediction {
  /** null unless one step is requested. */
  bulk: Bulk | null;
  unstable_lr: number | null;
}

/** A measure along learning rates, over seeds; null unless it is finite for all of them. */
export interface RateMap {
  lr: number[];
  median: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
}

export interface Noise {
  x: number[];
  density: number[];
  edge: number;
}

export type Message = { id: number } & (
  | { type: "progress"; phase: "load" | "start" | "train"; step: number; steps: number }
  | { type: "start"; config: Config; noise: Noise; prediction: Prediction | null; source: "stored" | "train"; map?: RateMap; note?: string }
  | { type: "snapshots"; snapshots: Snapshot[] }
  | { type: "done" | "cancelled" | "diverged"; step: number | null; message: null }
  | { type: "error" | "absent"; step: null; message: string }
);

export interface Engine {
  /** Train if `train` is set, else answer from stored runs; return the id of the request. */
  request(settings: Settings, train?: boolean): number;
  cancel(id: number): void;
  onMessage(callback: (message: Message) => void): () => void;
}
