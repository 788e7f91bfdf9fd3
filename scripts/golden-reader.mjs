// The reference data's reader and its cases as JavaScript, for scripts/gpu-check.mjs, which runs without a compiler.
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Writes `<folder>/build/check/*.js`. They use `<folder>/dist`, and the data in `<folder>/build/golden`. */
export async function compileGoldenReader(folder = root) {
  const { transformSync } = await import('@swc/core')
  const out = path.join(folder, 'build/check')
  mkdirSync(out, { recursive: true })
  for (const name of ['golden', 'golden-images', 'parity', 'safetensors']) {
    const source = readFileSync(path.join(root, `test/support/${name}.ts`), 'utf8')
    const { code } = transformSync(source, { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' } })
    writeFileSync(path.join(out, `${name}.js`), code.replaceAll('../../lib/', '../../dist/'))
  }
  const data = path.join(folder, 'build/golden')
  if (folder === root && !existsSync(data)) symlinkSync('../test/golden', data)
}
