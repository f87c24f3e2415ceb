// Oracle: htlib, law = one_step_law(n=600, d=300, h=450, optimizer=...) and law(lr); limits in closed form.

import { describe, expect, it } from "vitest";
import { type Law, predict } from "../../src/mirror/law";

const ADAM: Law = {
  h: 450,
  d: 300,
  gain: 91744.22887549257,
  drag: 1999.3573176081156,
  cross: 1510.5357261406768,
  signal: 14262.524906833229,
};
const GD: Law = {
  h: 450,
  d: 300,
  gain: 0.006455358078831983,
  drag: 0.7337583287248222,
  cross: 0,
  signal: 0.0012229305478747036,
};
const EDGE = Math.sqrt(450) + Math.sqrt(300);

describe("predict", () => {
  it.each([
    { law: ADAM, name: "adam", lr: 1, norm: 297.5282313305347, alignment: 0.40235775430422066 },
    { law: ADAM, name: "adam", lr: 5, norm: 1508.1071901367784, alignment: 0.3959830292251819 },
    { law: GD, name: "gd", lr: 3000, norm: 233.34135275646403, alignment: 0.451473751418691 },
    { law: GD, name: "gd", lr: 30000, norm: 2401.3635282145915, alignment: 0.43689913732919194 },
  ])("agrees with htlib: $name at $lr", ({ law, lr, norm, alignment }) => {
    const prediction = predict(law, lr);
    expect(prediction.has_outlier).toBe(true);
    expect(prediction.spectral_norm / norm).toBeCloseTo(1, 12);
    expect(prediction.alignment / alignment).toBeCloseTo(1, 12);
  });

  it.each([
    { law: ADAM, name: "adam", critical: 0.08496794863790615 },
    { law: GD, name: "gd", critical: 377.93475809237145 },
  ])("has no outlier below the critical rate of $name, one above", ({ law, critical }) => {
    const below = predict(law, 0.999 * critical);
    expect(below.critical_lr / critical).toBeCloseTo(1, 12);
    expect(below).toMatchObject({ has_outlier: false, alignment: 0, spectral_norm: EDGE });
    const above = predict(law, 1.001 * critical);
    expect(above.has_outlier).toBe(true);
    expect(above.spectral_norm).toBeGreaterThan(EDGE);
    expect(above.alignment).toBeGreaterThan(0);
  });

  it("leaves the weights alone at rate zero", () => {
    expect(predict(ADAM, 0)).toMatchObject({ has_outlier: false, alignment: 0, spectral_norm: EDGE });
  });

  it("aligns with the teacher as the update does where the rate is large", () => {
    expect(predict(GD, 1e12).alignment).toBeCloseTo(Math.sqrt(GD.signal / GD.gain), 8);
  });

  it("draws the curve from a thirtieth to 300 times the critical rate, evenly in the logarithm", () => {
    const { curve, critical_lr } = predict(ADAM, 1);
    expect(curve.lr).toHaveLength(61);
    expect(curve.lr[0] / critical_lr).toBeCloseTo(1 / 30, 12);
    expect(curve.lr[60] / critical_lr).toBeCloseTo(300, 9);
    curve.lr.slice(1).forEach((lr, i) => expect(lr / curve.lr[i]).toBeCloseTo(9000 ** (1 / 60), 12));
    for (const i of [0, 20, 40, 60]) {
      const { spectral_norm, alignment } = predict(ADAM, curve.lr[i]);
      expect([curve.spectral_norm[i], curve.alignment[i]]).toEqual([spectral_norm, alignment]);
    }
  });
});
