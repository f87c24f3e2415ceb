// Read and write what a reader has chosen in a page's address, so that readers can share it and go back.

import type { Settings, State } from "./protocol";

type Choices = Record<string, (string | number)[]>;

const BETWEEN = "*"; // the settings of A, in their order; an address need not encode it
const FIRST = "esd"; // the picture that an address need not name

/** Return what an address says; a setting that is missing or not allowed is that of `home`. */
export function fromAddress(search: string, home: Settings, choices: Choices): State {
  const given = new URLSearchParams(search);
  const values = given.get("pinned")?.split(BETWEEN) ?? [];
  const whole = values.length === Object.keys(home).length;
  return {
    settings: settingsFrom((name) => given.get(name), home, choices),
    train: given.get("train") === "1",
    panel: given.get("panel") ?? FIRST,
    pinned: whole ? settingsFrom((_, i) => values[i], home, choices) : null,
  };
}

function settingsFrom(textOf: (name: string, i: number) => string | null, home: Settings, choices: Choices): Settings {
  const settings: Record<string, string | number> = { ...home };
  Object.entries(home).forEach(([name, value], i) => {
    const text = textOf(name, i);
    if (text === null) return;
    const named = typeof value === "string" ? text : text.trim() === "" ? NaN : Number(text);
    const allowed = choices[name]?.includes(named) ?? Number.isFinite(named);
    if (allowed) settings[name] = named;
  });
  return settings as unknown as Settings;
}

/** Return the query that leads back to this state, and keep all other fields of the query. */
export function toAddress(search: string, home: Settings, { settings, train, panel, pinned }: State): string {
  const query = new URLSearchParams(search);
  const put = (name: string, value: string | null): void => (value === null ? query.delete(name) : query.set(name, value));
  for (const name of Object.keys(home) as (keyof Settings)[])
    put(name, settings[name] === home[name] ? null : String(settings[name]));
  put("train", train ? "1" : null);
  put("panel", panel === FIRST ? null : panel);
  put("pinned", pinned && (Object.keys(home) as (keyof Settings)[]).map((name) => pinned[name]).join(BETWEEN));
  return query.size ? `?${query}` : "";
}
