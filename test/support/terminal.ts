/** What stands in one cell; colours as `r;g;b`. */
export interface Cell {
  text: string
  foreground: string | undefined
  background: string | undefined
}

/** A picture that the terminal was told to show: where, with which keys, and its bytes. */
export interface Shown {
  protocol: 'kitty' | 'iterm2'
  row: number
  column: number
  keys: Record<string, string>
  data: Buffer
}

/** APC and OSC with their terminators, CSI, DEC's saved cursor, then what is no sequence. */
const SEQUENCE = new RegExp(
  [
    /\x1b_G(?<kitty>[^\x1b]*)\x1b\\/,
    /\x1b\](?<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)/,
    /\x1b\[(?<values>[\d;?]*)(?<final>[A-Za-z])/,
    /\x1b(?<dec>[78])/,
    /(?<text>[^])/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'gu',
)

/**
 * What a terminal makes of a program's output, as far as ggflux goes: ECMA-48's cursor moves, erasing and colours, DEC's saved cursor,
 * kitty's graphics commands, iTerm2's inline images. Rows count from the first one; the screen is `rows` high and scrolls. Anything else
 * is an error.
 */
export class Terminal {
  readonly grid: Cell[][] = [[]]
  readonly shown: Shown[] = []
  row = 0
  column = 0
  readonly #rows: number
  #saved = { row: 0, column: 0 }
  #foreground: string | undefined
  #background: string | undefined
  #chunks: { keys: Record<string, string>; base64: string } | undefined

  constructor(rows: number) {
    this.#rows = rows
  }

  /** The row as text, without blanks at its end. */
  line(row: number): string {
    return Array.from(this.grid[row] ?? [], (cell) => cell?.text ?? ' ')
      .join('')
      .trimEnd()
  }

  write(output: string): void {
    for (const { groups: { kitty, osc, values = '', final, dec, text } = {} } of output.matchAll(SEQUENCE)) {
      if (kitty !== undefined) this.#kitty(kitty)
      else if (osc !== undefined) this.#osc(osc)
      else if (final) this.#control(values, final)
      else if (dec === '7') this.#saved = { row: this.row, column: this.column }
      else if (dec === '8') Object.assign(this, this.#saved)
      else this.#print(text!)
    }
  }

  #print(text: string): void {
    if (text === '\r') this.column = 0
    else if (text === '\n') {
      this.row++
      this.grid[this.row] ??= []
    } else if (text >= ' ') {
      this.grid[this.row]![this.column++] = { text, foreground: this.#foreground, background: this.#background }
    } else throw new Error(`the terminal knows no ${JSON.stringify(text)}`)
  }

  #control(values: string, final: string): void {
    const first = Number(values.split(';')[0] || 0)
    if (final === 'm') return this.#colours(values.split(';').map(Number))
    // synchronised output, line wrapping, the cursor: nothing to see
    if (/[hl]/.test(final) && /^\?(2026|7|25)$/.test(values)) return
    if (final === 'A') {
      // what has scrolled away cannot be reached
      this.row = Math.max(this.row - Math.max(first, 1), this.grid.length - this.#rows, 0)
    } else if (final === 'G') this.column = Math.max(first, 1) - 1
    else if (final === 'K' && first === 0) this.grid[this.row]!.splice(this.column)
    else if (final === 'K' && first === 2) this.grid[this.row] = []
    else throw new Error(`the terminal knows no CSI ${values}${final}`)
  }

  #colours(values: number[]): void {
    while (values.length > 0) {
      const [kind, space, ...colour] = values.splice(0, values[0] === 0 ? 1 : 5)
      if (kind === 0) [this.#foreground, this.#background] = [undefined, undefined]
      else if (kind === 38 && space === 2) this.#foreground = colour.join(';')
      else if (kind === 48 && space === 2) this.#background = colour.join(';')
      else throw new Error(`the terminal knows no colour ${kind};${space}`)
    }
  }

  /** `a=T,f=100,m=1;base64`: the first command has the keys, those that follow continue its data. */
  #kitty(command: string): void {
    const [control, payload = ''] = command.split(';')
    if (payload.length > 4096) throw new Error(`a chunk of ${payload.length} bytes`)
    const keys = Object.fromEntries(control!.split(',').map((pair) => pair.split('=')))
    if (this.#chunks && Object.keys(keys).join() !== 'm') throw new Error(`a chunk with the keys ${control}`)
    this.#chunks ??= { keys, base64: '' }
    this.#chunks.base64 += payload
    if (keys.m === '1') {
      if (payload.length % 4 !== 0) throw new Error(`a chunk of ${payload.length} characters of base64`)
      return
    }
    const { m: _, ...first } = this.#chunks.keys
    this.#show('kitty', first, this.#chunks.base64)
    this.#chunks = undefined
  }

  /** `1337;File=name=value;name=value:base64` */
  #osc(command: string): void {
    const [, values, base64] = /^1337;File=([^:]*):(.*)$/s.exec(command) ?? []
    if (!values) throw new Error(`the terminal knows no OSC ${command.slice(0, 20)}`)
    this.#show('iterm2', Object.fromEntries(values.split(';').map((pair) => pair.split('='))), base64!)
  }

  #show(protocol: Shown['protocol'], keys: Record<string, string>, base64: string): void {
    this.shown.push({ protocol, row: this.row, column: this.column, keys, data: Buffer.from(base64, 'base64') })
    // iTerm2 leaves the cursor behind the picture's last row, whatever that is: to be restored by the program
    if (protocol === 'iterm2')
      Object.assign(this, { row: this.row + Number(keys.height) - 1, column: Number(keys.width) })
    while (this.grid.length <= this.row) this.grid.push([])
  }
}
