import { printable } from './format.js'

/** pino's number of a warning */
const WARNING = 40

/** Turns the log's JSON lines into short ones for a terminal: `12:03:11 POST /v1/images/generations 200 1240 ms`. */
export function requestLog(terminal: { write(text: string): unknown }): { write(line: string): void } {
  return {
    write(line) {
      const { level, time, msg, method, route, status, ms, job, model, prompt, code, message, err } = JSON.parse(line)
      const clock = new Date(time).toTimeString().slice(0, 8)
      const what =
        msg === 'request'
          ? `${method} ${route} ${status} ${ms} ms`
          : [msg, job, model, code, message, prompt && JSON.stringify(prompt), err?.stack ?? err?.message]
              .filter(Boolean)
              .join(' ')
      terminal.write(`${clock} ${level >= WARNING ? 'WARNING ' : ''}${printable(what)}\n`)
    },
  }
}
