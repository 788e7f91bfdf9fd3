// Runs a test file under a Node.js that vitest does not run under (wine, qemu). It prints failures, and a last line with the counts.
//   node run.mjs <compiled tests> test/native/golden.test.ts [part of the name of the tests]
// The first argument is the folder of the tests compiled to JavaScript (scripts/foreign-node.mjs). Only their text is taken from there, so that
// each still finds its neighbours and its data.
import { existsSync, readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = new URL('../../../', import.meta.url)
const [compiled, file, only = ''] = process.argv.slice(2)
const standIn = new URL('vitest.mjs', import.meta.url).href

registerHooks({
  resolve(name, context, next) {
    if (name === 'vitest') return { url: standIn, shortCircuit: true }
    const from = context.parentURL ?? ''
    if (!name.startsWith('.') || !from.startsWith(new URL('test/', root).href)) return next(name, context)
    // as vitest.config.ts has it: what is tested is what is shipped
    const inLib = /^(?:\.\.\/)+lib\/(.*)$/.exec(name)
    if (inLib) return { url: new URL(`dist/${inLib[1]}`, root).href, shortCircuit: true }
    const source = new URL(name.replace(/\.js$/, '.ts'), from)
    return existsSync(source) ? { url: source.href, shortCircuit: true } : next(name, context)
  },
  load(url, context, next) {
    if (!url.endsWith('.ts')) return next(url, context)
    const inside = path.relative(fileURLToPath(root), fileURLToPath(url)).replace(/\.ts$/, '.js')
    return { format: 'module', source: readFileSync(path.join(compiled, inside), 'utf8'), shortCircuit: true }
  },
})

const { runAll } = await import('./vitest.mjs')
await import(pathToFileURL(path.join(fileURLToPath(root), file)).href)
const { passed, failed, skipped } = await runAll(only)
console.log(`${file}: ${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exit(failed > 0 || passed === 0 ? 1 : 0)
