// One step from Gaussian weights in closed form, at every learning rate.
// Source: htlib/theory/one_step.py (OneStepLaw) and htlib/spectra/spikes.py; the derivations are in the book's appendix.

import type { SpikePrediction } from "../protocol";

/** The numbers of htlib's OneStepLaw that its predictions need. */
export interface Law {
  h: number;
  d: number;
  gain: number;
  drag: number;
  cross: number;
  signal: number;
}

const CURVE_POINTS = 61;
const CURVE_START = 1 / 30; // times the critical rate
const CURVE_END = 300;

export function predict(law: Law, lr: number): SpikePrediction {
  const critical = criticalRate(law);
  const rates = Array.from(
    { length: CURVE_POINTS },
    (_, i) => critical * CURVE_START * (CURVE_END / CURVE_START) ** (i / (CURVE_POINTS - 1)),
  );
  const points = rates.map((rate) => spike(law, rate));
  return {
    critical_lr: critical,
    ...spike(law, lr),
    curve: {
      lr: rates,
      spectral_norm: points.map((point) => point.spectral_norm),
      alignment: points.map((point) => point.alignment),
    },
  };
}

type Spike = Pick<SpikePrediction, "spectral_norm" | "alignment" | "has_outlier">;

/** Return the effect of the spike of strength theta on the noise (Benaych-Georges & Nadakuditi 2012). */
function spike(law: Law, lr: number): Spike {
  const { h, d, signal } = law;
  const excess = law.gain * lr ** 2 - 2 * law.drag * lr;
  const cross = law.cross * lr;
  const theta2 = (excess + Math.hypot(excess, 2 * cross)) / 2;
  if (theta2 <= Math.sqrt(h * d)) {
    return { spectral_norm: Math.sqrt(h) + Math.sqrt(d), alignment: 0, has_outlier: false };
  }
  const right = 1 - (d * (h + theta2)) / (theta2 * (theta2 + d));
  const main = theta2 / Math.hypot(theta2, cross); // the spike's share of the row it changes
  return {
    spectral_norm: Math.sqrt(((h + theta2) * (d + theta2)) / theta2),
    alignment: main * Math.sqrt((signal * right) / theta2) * lr,
    has_outlier: true,
  };
}

/** Return the rate at which theta^2 = sqrt(h d), above which the largest singular value leaves the bulk. */
function criticalRate({ h, d, gain, drag, cross }: Law): number {
  const threshold = Math.sqrt(h * d);
  const total = gain + cross ** 2 / threshold;
  return (drag + Math.sqrt(drag ** 2 + total * threshold)) / total;
}
