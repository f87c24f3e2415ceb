// Which settings the page runs, and why it refuses the others.
// Source: htlib/student/config.py, for the checks of ExperimentConfig and their wording.

import type { Meta } from "../meta";
import type { Settings } from "../protocol";

/** An error that the reader can correct. */
export class Refusal extends Error {}

/** Throw a Refusal for settings outside the bounds of htlib.ExperimentConfig and of the engine. */
export function refuse(settings: Settings, meta: Meta): void {
  const { lr, steps, seed } = settings;
  if (!(Number.isFinite(lr) && lr >= 0)) throw new Refusal(`lr must be finite and not negative; got ${lr}`);
  if (lr > 1e36) throw new Refusal(`lr must be at most 1e+36 in float32; got ${lr}`);
  if (!(Number.isInteger(seed) && seed >= 0)) throw new Refusal(`seed must be an integer, at least 0; got ${seed}`);
  if (!Number.isSafeInteger(seed)) throw new Refusal(`seed must be at most ${Number.MAX_SAFE_INTEGER} here; got ${seed}`);
  const most = meta.options.max_steps;
  if (!(Number.isInteger(steps) && steps >= 0)) throw new Refusal(`steps must be an integer, at least 0; got ${steps}`);
  if (steps > most) throw new Refusal(`steps must be at most ${most} here; got ${steps}`);
  for (const [name, allowed] of Object.entries(meta.options.choices)) {
    const value = settings[name as keyof Settings];
    if (!allowed.includes(value)) throw new Refusal(`${name} must be one of ${allowed.join(", ")}; got ${value}`);
  }
}
