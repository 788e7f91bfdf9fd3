const BYTE_UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB']
const COUNT_UNITS = ['', ' thousand', ' M', ' B', ' T']

/** Formats bytes in decimal units, as file managers and model pages do: `6.8 GB`. */
export function formatBytes(bytes: number): string {
  return scaled(
    bytes,
    BYTE_UNITS.map((unit) => ` ${unit}`),
  )
}

/** Formats a number of parameters as papers do: `11.9 B`. */
export function formatCount(count: number): string {
  return scaled(count, COUNT_UNITS)
}

function scaled(value: number, units: string[]): string {
  let power = 0
  while (power < units.length - 1 && value >= 999.5) [value, power] = [value / 1000, power + 1]
  return `${value.toFixed(power > 0 && value < 99.95 ? 1 : 0)}${units[power]}`
}

/** `0.42 s`, `6.1 s`, `3 min 5 s`, `1 h 2 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 0.995) return `${seconds.toFixed(2)} s`
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(whole / 60)
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export function formatPercent(share: number): string {
  return `${Math.floor(share * 100)} %`
}

/** Aligns the columns of the rows; `right` lists the columns of numbers, which are aligned to the right. */
export function table(rows: string[][], right: number[] = []): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: string[]) =>
    row
      .map((cell, column) => (right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd()
  return rows.map(line).join('\n')
}

/** Puts text from a file on one line and removes characters that could control the terminal. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+/g, ' ')
}
