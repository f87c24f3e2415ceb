// A table that can be sorted by each of its columns, and whose rows come one by one.

import { make } from "./dom";

const WIDTH = 6.5;

export interface Column<T> {
  title: string;
  /** What the column is, for those who ask. */
  help: string;
  value: (row: T) => number | string | undefined;
  write: (row: T) => Node | string;
  /** Texts are aligned to the left. */
  text?: boolean;
  /** In em; columns have fixed widths, so that they do not move while rows come. */
  width?: number;
}

export class Grid<T> {
  readonly element: HTMLTableElement;
  private readonly body = make("tbody");
  private readonly lines = new Map<T, HTMLTableRowElement>();
  private sorted: { column: Column<T>; down: boolean } | null = null;

  constructor(
    private readonly columns: readonly Column<T>[],
    caption: string,
  ) {
    const heads = columns.map((column) => {
      const button = make("button", { type: "button", title: column.help, click: () => this.sort(column) }, column.title);
      return make("th", { scope: "col", class: column.text ? "text" : null }, button);
    });
    const widths = columns.map(({ width = WIDTH }, i) => make("col", { class: i ? null : "first", style: `width: ${width}em` }));
    const total = columns.reduce((sum, { width = WIDTH }) => sum + width, 0);
    this.element = make("table", { style: `width: ${total}em` }, make("caption", {}, caption), make("colgroup", {}, ...widths), make("thead", {}, make("tr", {}, ...heads)), this.body);
  }

  /** Show a row in a line that waits for it, or in a new one. */
  set(row: T, at: HTMLTableRowElement | null = null): void {
    const cells = this.columns.map((column, i) => {
      const attributes = { class: column.text ? "text" : null };
      return i ? make("td", attributes, column.write(row)) : make("th", { scope: "row", ...attributes }, column.write(row));
    });
    const line = at ?? make("tr");
    line.replaceChildren(...cells); // a new line would make the browser style all others anew
    line.className = "";
    if (!at) this.body.append(line);
    this.lines.set(row, line);
  }

  /** Add a line that only says what will be there. */
  waiting(name: string, shape: string): HTMLTableRowElement {
    const line = make("tr", { class: "waiting" }, make("th", { scope: "row", class: "text" }, name), make("td", { class: "text", colspan: this.columns.length - 1 }, shape));
    this.body.append(line);
    return line;
  }

  lineOf(row: T): HTMLTableRowElement | undefined {
    return this.lines.get(row);
  }

  private sort(column: Column<T>): void {
    const down = this.sorted?.column === column ? !this.sorted.down : !column.text;
    this.sorted = { column, down };
    const key = (row: T): number | string => {
      const value = column.value(row);
      return value === undefined || (typeof value === "number" && Number.isNaN(value)) ? -Infinity : value;
    };
    const order = [...this.lines.keys()].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
    if (down) order.reverse();
    this.body.append(...order.map((row) => this.lines.get(row)!));
    this.element.querySelectorAll("thead th").forEach((head, i) => {
      if (this.columns[i] === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
}

/** Write rows as comma-separated values, as pandas does: without a number there is nothing. */
export function csv(names: readonly string[], rows: readonly object[]): string {
  const cell = (value: unknown): string => {
    if (value === undefined || value === null || (typeof value === "number" && Number.isNaN(value))) return "";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (Array.isArray(value)) return value.join("x");
    if (typeof value === "number" && !Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    const text = String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => names.map((name) => cell((row as Record<string, unknown>)[name])).join(","));
  return `${[names.join(","), ...lines].join("\n")}\n`;
}
