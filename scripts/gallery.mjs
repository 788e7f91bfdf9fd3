// Makes the pictures that the README, the page on editing and the tiny model's card show: `node scripts/gallery.mjs`, after a build.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { canny, encodeImage, FluxPipeline } from 'ggflux'
import sharp from 'sharp'

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
writeFileSync(`${root}models/tiny/sheet.png`, await encodeImage(sheet, COLUMNS * SIDE, ROWS * SIDE, { compression: 9 }))

// images in, each a strip: what was given, then what was drawn
const GAP = 8
const square = (data) => ({ data: new Uint8Array(data), width: SIDE, height: SIDE })
const draw = (options) => pipe.generate({ seed: 2, steps: 20, format: 'raw', ...options })

/** Writes images of the same height next to each other, on transparent ground. */
async function writeStrip(name, images) {
  const widths = images.map(({ width }) => width)
  const width = widths.reduce((sum, one) => sum + one + GAP, -GAP)
  const composite = images.map(({ data, width, height }, i) => ({
    input: Buffer.from(data),
    raw: { width, height, channels: 3 },
    top: 0,
    left: widths.slice(0, i).reduce((sum, one) => sum + one + GAP, 0),
  }))
  const create = { width, height: SIDE, channels: 4, background: '#0000' }
  await sharp({ create })
    .composite(composite)
    .png({ compressionLevel: 9, adaptiveFiltering: true })
    .toFile(`${root}docs/gallery/${name}.png`)
}

const startImage = square(await draw({ prompt: 'a large green square on a beige background', seed: 1 }))
const changed = []
for (const strength of [0.3, 0.4, 0.6])
  changed.push(
    square(await draw({ prompt: 'a large purple heart on a light blue background', image: startImage, strength })),
  )
await writeStrip('strength', [startImage, ...changed])

const whole = square(await draw({ prompt: 'a yellow star left of a purple heart on a dark blue background', seed: 1 }))
const mask = { data: new Uint8Array(SIDE * SIDE), width: SIDE, height: SIDE }
for (let i = 0; i < mask.data.length; i++) mask.data[i] = i % SIDE < SIDE / 2 ? 0 : 255
const prompt = 'a yellow star left of an orange ring on a dark blue background'
const repainted = square(await draw({ prompt, image: whole, mask, strength: 1 }))
await writeStrip('mask', [whole, square([...mask.data].flatMap((value) => [value, value, value])), repainted])

const narrow = square(await draw({ prompt: 'a green diamond on a beige background', seed: 1 }))
const wider = { prompt: 'a green diamond left of a pink cross on a beige background', image: narrow, strength: 1 }
const extended = { ...square(await draw({ ...wider, extend: { right: SIDE } })), width: 2 * SIDE }
await writeStrip('extend', [narrow, extended])

const heart = square(await draw({ prompt: 'a large red heart on a white background', seed: 1 }))
const edges = await canny(heart, 100, 200)
const inside = (prompt) => draw({ prompt, controlNets: [{ path: 'tiny-outline', image: edges }] })
await writeStrip('outline', [
  edges,
  square(await inside('a green heart on a beige background')),
  square(await inside('a yellow heart, a gradient from dark blue at the top to purple')),
])
await pipe.close()
