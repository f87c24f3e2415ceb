// The file that the build writes beside the engine: everything that Python computes and the page needs.

import type { StepLaw } from "./mirror/one_step";
import type { Noise, Options, Settings, Sizes } from "./protocol";

/** The noise law and the closed forms for runs of one size. */
export interface Shape {
  sizes: Sizes;
  noise: Noise;
  /** If a law is missing, there is no theory; a text is the key of an equal law. */
  laws: Record<string, StepLaw | string>;
}

export interface Meta {
  /** The same options as in Jupyter. */
  options: Options;
  activation: string;
  ridge_lambda: number;
  /** The factor by which the probes multiply pre-activations, by feature scale. */
  input_scales: Record<string, number>;
  vectors: number;
  /** Mean and variance of the link function at a standard normal variable. */
  teachers: Record<string, { mean: number; variance: number }>;
  trained: Shape;
  stored: Shape;
}

/** Return the law of the first step with these settings. */
export function lawOf({ laws }: Shape, s: Pick<Settings, "optimizer" | "teacher" | "labels" | "noise_std">): StepLaw | undefined {
  const law = laws[[s.optimizer, s.teacher, s.labels, s.noise_std].join(" ")];
  return typeof law === "string" ? (laws[law] as StepLaw) : law;
}

export async function fetchMeta(folder: URL): Promise<Meta> {
  const response = await fetch(new URL("meta.json", folder));
  if (!response.ok) throw new Error(`meta.json cannot be read (${response.status})`);
  return (await response.json()) as Meta;
}
