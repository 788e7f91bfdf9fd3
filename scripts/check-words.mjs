// Finds the words of words.txt in the documentation and in the comments and strings of the sources. Prints where they are and what to write.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8')
const list = read('words.txt')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'))
const better = list.map((line) => line.split(' = '))
const words = new RegExp(
  better.map(([pattern]) => `\\b(${pattern.replaceAll('(', '(?:').replaceAll('(?:?', '(?')})\\b`).join('|'),
  'gi',
)

// Strings are matched along with comments, so that the slashes of an address in one begin no comment; paths of imports are left out.
const PROSE = /\/\*[^]*?\*\/|\/\/.*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g
const isImport = (text) => /^['"]\.{1,2}\//.test(text)
/** Names in prose: what a template inserts, a parameter, a key. Spaces take their place, so that lines can be counted. */
const NAMES = /\$\{[^{}]*\}|@param \w+|^['"]\w+['"]$/g

const paths = [
  '*.md',
  'docs/*.md',
  'examples/*.md',
  'models/tiny/README.md',
  'lib/*.ts',
  'native/*.cpp',
  'native/*.hpp',
  'native/*.h',
]
const files = execFileSync('git', ['ls-files', ...paths], { cwd: new URL('..', import.meta.url), encoding: 'utf8' })
  .trim()
  .split('\n')
  // a vocabulary, and licences
  .filter((file) => !['lib/tokenizers/synthetic.ts', 'THIRD_PARTY_NOTICES.md'].includes(file))

let count = 0
for (const file of files) {
  const text = read(`../${file}`)
  const parts = file.endsWith('.md')
    ? [{ 0: text, index: 0 }]
    : [...text.matchAll(PROSE)].filter(([part]) => !isImport(part))
  for (const { 0: part, index } of parts) {
    for (const found of part.replace(NAMES, (name) => ' '.repeat(name.length)).matchAll(words)) {
      const line = text.slice(0, index + found.index).split('\n').length
      const which = found.slice(1).findIndex((group) => group !== undefined)
      console.log(`${file}:${line}: ${found[0]} -> ${better[which][1]}`)
      count++
    }
  }
}
console.log(`${count} words in ${files.length} files`)
process.exitCode = count ? 1 : 0
