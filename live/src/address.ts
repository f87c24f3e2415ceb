// Read and write the settings of an experiment in a page's address, so that readers can share it.

import type { Settings } from "./protocol";

type Choices = Record<string, (string | number)[]>;

/** Return the settings in an address; a setting that is missing or not allowed is that of `home`. */
export function fromAddress(search: string, home: Settings, choices: Choices): { settings: Settings; train: boolean } {
  const given = new URLSearchParams(search);
  const settings: Record<string, string | number> = { ...home };
  for (const [name, value] of Object.entries(home)) {
    const text = given.get(name);
    if (text === null) continue;
    const named = typeof value === "string" ? text : text.trim() === "" ? NaN : Number(text);
    const allowed = choices[name]?.includes(named) ?? Number.isFinite(named);
    if (allowed) settings[name] = named;
  }
  return { settings: settings as unknown as Settings, train: given.get("train") === "1" };
}

/** Return the query that leads back to these settings, and keep all other fields of the query. */
export function toAddress(search: string, home: Settings, settings: Settings, train: boolean): string {
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(settings))
    if (value === home[name as keyof Settings]) query.delete(name);
    else query.set(name, String(value));
  if (train) query.set("train", "1");
  else query.delete("train");
  return query.size ? `?${query}` : "";
}
