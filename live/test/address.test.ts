import { describe, expect, test } from "vitest";
import { fromAddress, toAddress } from "../src/address";
import { CHOICES, SETTINGS } from "./settings";

const HOME = { settings: SETTINGS, train: false, panel: "esd", pinned: null };

describe("settings in the address", () => {
  test("are read by name, and numbers as numbers", () => {
    const { settings, train } = fromAddress("?lr=2e3&optimizer=gd&steps=0&train=1", SETTINGS, CHOICES);
    expect(settings).toEqual({ ...SETTINGS, lr: 2000, optimizer: "gd", steps: 0 });
    expect(train).toBe(true);
  });

  test.each(["lr=", "lr=fast", "lr=Infinity", "labels=nonsense", "noise_std=0.2", "unknown=1", "constructor=1"])(
    "%s is not taken",
    (query) => expect(fromAddress(`?${query}`, SETTINGS, CHOICES)).toEqual(HOME),
  );

  test("hold only what differs, and leave what is not ours", () => {
    const settings = { ...SETTINGS, lr: 0.5, labels: "shuffled" };
    expect(toAddress("?highlight=word&steps=4", SETTINGS, { ...HOME, settings })).toBe("?highlight=word&lr=0.5&labels=shuffled");
    expect(toAddress("?lr=3&train=1&panel=rates&pinned=x", SETTINGS, HOME)).toBe("");
    const state = { settings, train: true, panel: "rates", pinned: { ...SETTINGS, seed: 3, noise_std: 1 } };
    const there = toAddress("", SETTINGS, state);
    expect(there).toContain("pinned=adam*1*10*");
    expect(fromAddress(there, SETTINGS, CHOICES)).toEqual(state);
  });

  test.each(["", "adam*1", "adam*1*10*softplus*real*0.3*paper*0*9"])("A is whole or not there: %s", (text) => {
    expect(fromAddress(`?pinned=${text}`, SETTINGS, CHOICES).pinned).toBeNull();
  });
});
