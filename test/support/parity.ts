/** One row of an error table: what was compared, its relative L2, and the tolerance. */
export type ErrorRow = [what: string, relativeL2: number, tolerance: number]

/** Printed past vitest's capture, so that a test run ends with the figures. */
export function printErrorTable(title: string, rows: ErrorRow[]): void {
  const width = Math.max(...rows.map(([what]) => what.length))
  const lines = rows.map(
    ([what, error, limit]) =>
      `  ${what.padEnd(width)}  ${error.toExponential(1).padStart(8)}  of ${limit.toExponential(0)}`,
  )
  process.stdout.write(`\n${title}\n${lines.join('\n')}\n`)
}
