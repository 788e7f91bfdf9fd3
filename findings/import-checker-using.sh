#!/usr/bin/env bash
# dependency-cruiser 17.3.9 with its swc parser: a TypeScript file with `await using` stops the whole run.
#
# swc itself compiles explicit resource management. The visitor that comes with @swc/core, through which dependency-cruiser looks for
# imports, has no case for the declaration and throws. With TypeScript 7, which offers other programs no parser, swc is the parser that
# is left, so a project that uses both has to add the case itself (scripts/check-imports.mjs).
#
# Output seen:
#   await using: Unknown statement type: UsingDeclaration
#   const: src/main.ts, src/open.ts
set -euo pipefail
cd "$(mktemp -d)"
echo '{ "type": "module" }' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts dependency-cruiser@17.3.9 @swc/core@1.16.22 > /dev/null
mkdir src
echo 'export const open = (): AsyncDisposable => ({ async [Symbol.asyncDispose]() {} })' > src/open.ts
cat > check.mjs <<'JS'
import { writeFileSync } from 'node:fs'
import { cruise } from 'dependency-cruiser'
for (const keyword of ['await using', 'const']) {
  writeFileSync('src/main.ts', `import { open } from './open.js'\n${keyword} file = open()\nvoid file\n`)
  const seen = await cruise(['src'], { parser: 'swc' }).then(
    ({ output }) => output.modules.map(({ source }) => source).sort().join(', '),
    (error) => /Unknown statement type: \w+/.exec(error.message)?.[0] ?? error.message,
  )
  console.log(`${keyword}: ${seen}`)
}
JS
node check.mjs | tee seen.txt
diff seen.txt - <<'SEEN'
await using: Unknown statement type: UsingDeclaration
const: src/main.ts, src/open.ts
SEEN
