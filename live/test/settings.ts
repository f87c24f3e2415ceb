import type { Settings } from "../src/protocol";

export const SETTINGS: Settings = {
  optimizer: "adam",
  lr: 1,
  steps: 10,
  teacher: "softplus",
  labels: "real",
  noise_std: 0.3,
  feature_scale: "paper",
  seed: 0,
};

export const CHOICES = {
  optimizer: ["adam", "gd"],
  teacher: ["softplus", "relu"],
  labels: ["real", "shuffled"],
  noise_std: [0, 0.3, 1],
  feature_scale: ["paper", "released-code"],
};
