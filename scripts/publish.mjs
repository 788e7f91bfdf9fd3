// Publishes the packages of a folder that scripts/packages.mjs filled, `ggflux` last, so that nobody installs it before its binaries are there:
//   node scripts/publish.mjs packages [--dry-run]
// Those that are published already are skipped, so that an interrupted run can be repeated.
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { npm, runAsProgram } from './ggml.mjs'
import { fileInTar } from './gpu-module.mjs'

runAsProgram(import.meta.url, () => {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'dry-run': { type: 'boolean' } } })
  if (positionals.length !== 1) throw new Error('usage: node scripts/publish.mjs packages [--dry-run]')
  publish(path.resolve(positionals[0]), values['dry-run'])
})

function publish(folder, dryRun) {
  const packages = readdirSync(folder)
    .filter((file) => file.endsWith('.tgz'))
    .map((file) => ({
      file: path.join(folder, file),
      manifest: JSON.parse(fileInTar(gunzipSync(readFileSync(path.join(folder, file))), 'package/package.json')),
    }))
  const main = packages.find(({ manifest }) => manifest.name === 'ggflux')
  if (!main) throw new Error(`${folder} has no package of ggflux itself.`)
  const { version, optionalDependencies } = main.manifest

  // a tag names the version it releases
  const tag = process.env.GITHUB_REF_TYPE === 'tag' ? process.env.GITHUB_REF_NAME : undefined
  if (tag && tag !== `v${version}`) throw new Error(`the tag is ${tag} and package.json has version ${version}.`)
  const others = packages.filter(({ manifest }) => manifest.version !== version)
  if (others.length > 0) throw new Error(`${others[0].file} is not of version ${version}.`)
  // other package managers refuse to install ggflux if one of these does not exist
  const missing = Object.keys(optionalDependencies).filter(
    (name) => !packages.some(({ manifest }) => manifest.name === name),
  )
  if (missing.length > 0) throw new Error(`${folder} lacks ${missing.join(', ')}, which ggflux installs.`)

  for (const { file, manifest } of [...packages.filter((each) => each !== main), main]) {
    const spec = `${manifest.name}@${version}`
    if (npm(['view', spec, 'version'], folder).stdout?.trim() === version) {
      console.log(`${spec} is published already`)
      continue
    }
    // the proof of where a package was built can be made by a workflow only
    const options = dryRun ? ['--dry-run'] : process.env.CI ? ['--provenance'] : []
    const result = npm(['publish', file, '--access', 'public', '--loglevel=error', ...options], folder)
    if (result.status !== 0) throw new Error(`npm could not publish ${spec}:\n${result.stderr}`)
    console.log(`${spec} ${dryRun ? 'could be' : 'is'} published`)
  }
}
