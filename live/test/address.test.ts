import { describe, expect, test } from "vitest";
import { fromAddress, toAddress } from "../src/address";
import { CHOICES, SETTINGS } from "./settings";

describe("settings in the address", () => {
  test("are read by name, and numbers as numbers", () => {
    const { settings, train } = fromAddress("?lr=2e3&optimizer=gd&steps=0&train=1", SETTINGS, CHOICES);
    expect(settings).toEqual({ ...SETTINGS, lr: 2000, optimizer: "gd", steps: 0 });
    expect(train).toBe(true);
  });

  test.each(["lr=", "lr=fast", "lr=Infinity", "labels=nonsense", "noise_std=0.2", "unknown=1", "constructor=1"])(
    "%s is not taken",
    (query) => expect(fromAddress(`?${query}`, SETTINGS, CHOICES)).toEqual({ settings: SETTINGS, train: false }),
  );

  test("hold only what differs, and leave what is not ours", () => {
    const settings = { ...SETTINGS, lr: 0.5, labels: "shuffled" };
    expect(toAddress("?highlight=word&steps=4", SETTINGS, settings, false)).toBe("?highlight=word&lr=0.5&labels=shuffled");
    expect(toAddress("?lr=3&train=1", SETTINGS, SETTINGS, false)).toBe("");
    const there = toAddress("", SETTINGS, settings, true);
    expect(fromAddress(there, SETTINGS, CHOICES)).toEqual({ settings, train: true });
  });
});
