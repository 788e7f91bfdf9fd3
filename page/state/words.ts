/** '8 seconds', '2 minutes' */
export function inSeconds(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds))
  return whole < 120 ? counted(whole, 'second') : counted(Math.ceil(whole / 60), 'minute')
}

/** '1 image', '2 images' */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** '8 s', '2 min 5 s', '1 h 2 min' */
export function shortTime(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** '3.4 MB' */
export function fileSize(bytes: number): string {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
