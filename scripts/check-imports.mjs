// Checks how the files of lib/ import each other by the rules in .dependency-cruiser.mjs. What broke them before they were written is listed in
// .dependency-cruiser-known.json, which may only shrink: a violation that is not in it is an error, and so is an entry that is mended and still in it.
import { readFileSync } from 'node:fs'
import { Visitor } from '@swc/core/Visitor.js'
import config from '../.dependency-cruiser.mjs'

// TypeScript 7 has no parser for other programs, so swc reads the sources. The visitor that dependency-cruiser takes from it does not know `using`.
const { visitStatement } = Visitor.prototype
Visitor.prototype.visitStatement = function (statement) {
  if (statement.type !== 'UsingDeclaration') return visitStatement.call(this, statement)
  statement.decls = this.visitVariableDeclarators(statement.decls)
  return statement
}

const { cruise } = await import('dependency-cruiser')
const { output } = await cruise(['lib'], {
  ...config.options,
  validate: true,
  ruleSet: { forbidden: config.forbidden },
})
const { violations, totalCruised } = output.summary
const found = violations.map(({ rule, from, to, cycle }) => {
  const path = cycle ? [from, ...cycle.map(({ name }) => name)] : from === to ? [from] : [from, to]
  return `${rule.name}: ${path.join(' -> ')}`
})
const known = JSON.parse(readFileSync(new URL('../.dependency-cruiser-known.json', import.meta.url), 'utf8'))

for (const violation of found.filter((violation) => !known.includes(violation))) {
  const { comment } = config.forbidden.find(({ name }) => violation.startsWith(`${name}:`))
  console.error(`${violation}\n  ${comment}`)
  process.exitCode = 1
}
for (const violation of known.filter((violation) => !found.includes(violation))) {
  console.error(`${violation}\n  This is mended: remove it from .dependency-cruiser-known.json.`)
  process.exitCode = 1
}
console.log(`${totalCruised} modules, ${found.length} violations, ${known.length} of them known`)
