// What a start message predicts for one step.
// Source: htlib/explorer/messages.py (one_step).

import type { Prediction, Settings } from "../protocol";
import { bulk, type StepNoise } from "./bulk";
import { type Law, predict } from "./law";

/** A law with its noise, as the build writes it. */
export interface StepLaw extends Law {
  noise: StepNoise;
  /** The rate above which the first steps are unstable; null if there is none. */
  unstable_lr: number | null;
}

/** Return the prediction, or null where there is no theory. */
export function oneStep(law: StepLaw | undefined, { lr, steps }: Pick<Settings, "lr" | "steps">): Prediction | null {
  if (!law) return null;
  const prediction = predict(law, lr);
  return {
    ...prediction,
    bulk: steps === 1 ? bulk(law.noise, lr, prediction.has_outlier) : null,
    unstable_lr: law.unstable_lr,
  };
}
