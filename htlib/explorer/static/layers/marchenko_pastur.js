// @ts-check
// The law of the spectrum of pure noise.
// Source: htlib/spectra/noise.py.

/** The law of the raw ESD of an (h, d) matrix of independent entries, min(h, d) values. */
export class MarchenkoPastur {
  /**
   * @param {number} h
   * @param {number} d
   * @param {number} variance
   */
  constructor(h, d, variance = 1) {
    /** At most 1. */
    this.c = Math.min(h, d) / Math.max(h, d);
    /** The scale of the support: the variance of an entry times the longer side. */
    this.s = variance * Math.max(h, d);
    const root = Math.sqrt(this.c);
    /** @type {readonly [number, number]} */
    this.support = [this.s * (1 - root) ** 2, this.s * (1 + root) ** 2];
  }

  /** @param {number} x */
  pdf(x) {
    const [low, high] = this.support;
    if (!(x > low && x < high)) return 0;
    return Math.sqrt((high - x) * (x - low)) / (2 * Math.PI * this.c * this.s * x);
  }

  /** @param {number} x */
  cdf(x) {
    const { c, s } = this;
    const [low, high] = this.support;
    if (x <= low) return 0;
    if (x >= high) return 1;
    const r = Math.sqrt((high - x) / (x - low));
    let value = Math.PI * c + Math.sqrt((high - x) * (x - low)) / s;
    value -= (1 + c) * Math.atan((r * r - 1) / (2 * r));
    if (c < 1) value += (1 - c) * Math.atan((low * r * r - high) / (2 * s * (1 - c) * r));
    return value / (2 * Math.PI * c);
  }
}
