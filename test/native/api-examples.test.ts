import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))
const examples = [...readFileSync(join(root, 'docs/api.md'), 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(
  ([, code]) => code!,
)

/** what each example prints, in the order of the page */
const OUTPUTS = [
  /^$/,
  /^1\/4 undefined\n2\/4 768\n3\/4 undefined\n4\/4 768\na lighthouse\nSteps: 4, Sampler: Euler, .*Size: 128x128/,
  /^1\n0\.33\n0\.67\ntrue\n$/,
  /^linear\n$/,
  /^TimeoutError\n$/,
  /^FLUX_BAD_OPTION width is 1000: give a multiple of 16 from 64 to 4096; 1008 is nearest\n$/,
  /^\{ x: 0, y: 55, width: 132, height: 132 \} 400\n$/,
  /^$/,
  /^\d{4,}\n$/,
]

/** a program of its own that has ggflux among its packages and the tiny model in the folder `model` */
let program: string
beforeAll(async () => {
  program = mkdtempSync(join(tmpdir(), 'ggflux-examples-'))
  mkdirSync(join(program, 'node_modules'))
  symlinkSync(root, join(program, 'node_modules/ggflux'), 'dir')
  symlinkSync(dirname(tinyModelFiles().t5), join(program, 'model'), 'dir')
  examples.forEach((code, i) => writeFileSync(join(program, `${i}.mts`), code))
})
afterAll(() => rmSync(program, { recursive: true }))

test('every example of the API page satisfies the compiler', async () => {
  expect(examples).toHaveLength(OUTPUTS.length)
  const compilerOptions = {
    strict: true,
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    module: 'nodenext',
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
    skipLibCheck: true,
  }
  writeFileSync(join(program, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts'] }))
  const compiler = run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc')], { cwd: program })
  await expect(compiler.catch((error: { stdout: string }) => error)).resolves.toMatchObject({ stdout: '' })
})

test.each(OUTPUTS.map((output, i): [number, RegExp] => [i, output]))('example %i runs', async (i, output) => {
  const { stdout } = await run(process.execPath, [`${i}.mjs`], { cwd: program })
  expect(stdout).toMatch(output)
  if (i === 0) expect(readFileSync(join(program, 'circle.png')).subarray(1, 4).toString()).toBe('PNG')
})
