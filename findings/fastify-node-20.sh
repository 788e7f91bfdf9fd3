#!/usr/bin/env bash
# fastify 5.12.8 on Node 20: the package itself and its documents allow Node 20, but what npm installs with it does not.
#
# fastify takes any light-my-request 6 (for `inject`, which tests use), and from 6.8 on that package takes cookie 2, which wants Node 22. So `npm install fastify` on
# Node 20 warns (EBADENGINE), and fails with `engine-strict`. The server itself works on Node 20: light-my-request is loaded at the first `inject`. A package that
# depends on fastify cannot mend that with `overrides`, which npm reads only from the root; listing `light-my-request` 6.6.0 as its own dependency does, because
# npm then has one version that fits both.
#
# Output seen:
#   fastify 5.12.8: light-my-request ^6.0.0
#   alone: cookie for Node >=22
#   with light-my-request 6.6.0 as a dependency: cookie for Node >=18
set -euo pipefail
cd "$(mktemp -d)"
cat > read.mjs <<'JS'
import { readFileSync } from 'node:fs'
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'))
const [, , label] = process.argv
if (label === 'fastify') {
  const { version, dependencies } = packages['node_modules/fastify']
  console.log(`fastify ${version}: light-my-request ${dependencies['light-my-request']}`)
} else console.log(`${label}: cookie for Node ${packages['node_modules/cookie'].engines.node}`)
JS
{
  echo '{ "private": true, "dependencies": { "fastify": "5.12.8" } }' > package.json
  npm install --package-lock-only --silent --no-audit --no-fund
  node read.mjs fastify
  node read.mjs alone
  rm package-lock.json
  echo '{ "private": true, "dependencies": { "fastify": "5.12.8", "light-my-request": "6.6.0" } }' > package.json
  npm install --package-lock-only --silent --no-audit --no-fund
  node read.mjs 'with light-my-request 6.6.0 as a dependency'
} | tee seen.txt
diff seen.txt - <<'SEEN'
fastify 5.12.8: light-my-request ^6.0.0
alone: cookie for Node >=22
with light-my-request 6.6.0 as a dependency: cookie for Node >=18
SEEN
