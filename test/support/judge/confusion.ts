/** Counts of what was seen where something was wanted. */
export class Confusion {
  readonly title: string
  readonly #counts = new Map<string, Map<string, number>>()

  constructor(title: string) {
    this.title = title
  }

  add(wanted: string, seen: string): void {
    const row = this.#counts.get(wanted) ?? new Map<string, number>()
    this.#counts.set(wanted, row.set(seen, (row.get(seen) ?? 0) + 1))
  }

  /** part of the counts on the diagonal */
  get accuracy(): number {
    let [right, all] = [0, 0]
    for (const [wanted, row] of this.#counts) {
      for (const [seen, count] of row) {
        all += count
        if (seen === wanted) right += count
      }
    }
    return all ? right / all : 0
  }

  /** A row per wanted name, a column per seen one; a name that was seen and never wanted comes last. */
  toString(): string {
    const wanted = [...this.#counts.keys()].sort()
    const others = new Set([...this.#counts.values()].flatMap((row) => [...row.keys()]))
    const columns = [...wanted, ...[...others].filter((name) => !this.#counts.has(name)).sort()]
    const first = Math.max(this.title.length, ...wanted.map((name) => name.length))
    const line = (name: string, cells: string[]) =>
      [name.padEnd(first), ...cells.map((cell, i) => cell.padStart(Math.max(5, columns[i].length)))].join(' ')
    const rows = wanted.map((name) =>
      line(
        name,
        columns.map((column) => String(this.#counts.get(name)!.get(column) ?? '.')),
      ),
    )
    return [line(this.title, columns), ...rows, `on the diagonal: ${(100 * this.accuracy).toFixed(2)} %`].join('\n')
  }
}
