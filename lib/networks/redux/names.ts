import type { NameTable } from '../name-table.js'

/** Redux's projector: the official file and diffusers' have the same names. */
export const REDUX_NAMES: NameTable = {
  prefixes: [''],
  renames: [],
  aliases: {},
  ignored: [],
  marks: ['redux_up.weight'],
}
