// Makes the pictures that the README and the tiny model's card show: `node scripts/gallery.mjs`, after a build.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { encodeImage, FluxPipeline } from 'ggflux'

const root = fileURLToPath(new URL('../', import.meta.url))

/** file, prompt, and what is not default */
const GALLERY = [
  ['first', 'a small red circle left of a large blue square on a white background'],
  ['star', 'a yellow star above a purple heart on a dark blue background'],
  ['gradient', 'a large orange triangle in the center, a gradient from light blue at the top to beige'],
  ['corner', 'a tiny cyan ring in the top right corner on a black background'],
  ['wide', 'a green diamond left of a pink cross on a beige background', '--width', '256', '--height', '128'],
  ['words', 'a white heart right of a brown star, a horizontal blue to pink gradient'],
]

mkdirSync(`${root}docs/gallery`, { recursive: true })
for (const [name, prompt, ...options] of GALLERY) {
  const args = ['generate', prompt, '-o', `${root}docs/gallery/${name}.png`, '--seed', '1', '--quiet', ...options]
  execFileSync(process.execPath, [`${root}dist/cli/main.js`, ...args], { stdio: 'inherit' })
}

// a sheet of the first held-out prompts of either kind, none left out
const [COLUMNS, ROWS, SIDE] = [9, 4, 128]
const prompts = JSON.parse(readFileSync(`${root}models/tiny/held-out-prompts.json`, 'utf8'))
const half = (COLUMNS * ROWS) / 2
const chosen = [
  ...prompts.filter(({ things }) => things.length === 1).slice(0, half),
  ...prompts.filter(({ things }) => things.length === 2).slice(0, half),
]
const sheet = Buffer.alloc(COLUMNS * ROWS * SIDE * SIDE * 3)
const pipe = await FluxPipeline.load('tiny')
for (const [i, { prompt }] of chosen.entries()) {
  const rgb = await pipe.generate({ prompt, seed: 1, width: SIDE, height: SIDE, format: 'raw' })
  const [x, y] = [(i % COLUMNS) * SIDE, Math.floor(i / COLUMNS) * SIDE]
  for (let row = 0; row < SIDE; row++) {
    rgb.copy(sheet, ((y + row) * COLUMNS * SIDE + x) * 3, row * SIDE * 3, (row + 1) * SIDE * 3)
  }
}
await pipe.close()
writeFileSync(`${root}models/tiny/sheet.png`, await encodeImage(sheet, COLUMNS * SIDE, ROWS * SIDE, { compression: 9 }))
