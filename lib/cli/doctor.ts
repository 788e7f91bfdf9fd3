import type { Command } from 'commander'
import type { NativeDrivers } from '../native/addon.js'
import { availableParallelism } from 'node:os'
import { VERSION } from '../version.js'
import { formatBytes, printable } from './format.js'
import { printTrial } from './live-line.js'

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('show which graphics cards can be used, which cannot and why, and what to install')
    .option('--json', 'print one JSON object')
    .option('--retry', 'try all GPUs again, also those with a result')
    .addHelpText('after', '\nExamples:\n  ggflux doctor\n  ggflux doctor --retry\n  ggflux doctor --json > report.json')
    .action(examine)
}

async function examine({ json, retry }: { json?: true; retry?: true }): Promise<void> {
  const { diagnose } = await import('../native/diagnosis.js')
  const { findAddon, glibcVersion, PLATFORM } = await import('../native/locate.js')
  const { clearTrials, trialCacheFile } = await import('../native/trial-cache.js')
  const addon = findAddon()
  if (retry) clearTrials()
  const diagnosis = await diagnose({ onTrial: printTrial })
  if (json) {
    console.log(
      JSON.stringify({ version: VERSION, platform: PLATFORM, node: process.version, addon, ...diagnosis }, null, 2),
    )
    return
  }
  const { devices, auto, modules, drivers, driverFailure, advice } = diagnosis
  const glibc = process.platform === 'linux' ? `, glibc ${glibcVersion() ?? 'none'}` : ''
  console.log(`ggflux ${VERSION} on ${PLATFORM}, Node.js ${process.versions.node}${glibc}`)
  console.log(`  ${addon}\n`)

  console.log('What can compute here')
  for (const { name, kind, description, driver, memoryTotal, refused, integrated } of devices) {
    const parts = [
      printable(description),
      kind === 'cpu' ? `${availableParallelism()} threads` : integrated ? "uses the computer's memory" : '',
      memoryTotal ? formatBytes(memoryTotal) : '',
      driver ? `driver ${printable(driver)}` : '',
    ]
    const state = refused ? 'refused' : name === auto ? 'used   ' : 'ready  '
    console.log(`  ${state}  ${name}: ${parts.filter(Boolean).join(', ')}`)
  }
  console.log('\nModules for graphics cards')
  if (modules.length === 0)
    console.log(`  ${driverFailure ? 'not loaded, because a driver failed' : 'none is installed'}`)
  for (const { backend, file, failure } of modules)
    console.log(`  ${backend}: ${failure ? printable(failure) : 'loaded'}\n    ${file}`)
  console.log('\nDrivers')
  if (driverFailure) console.log(`  ${printable(driverFailure)}`)
  else printDrivers(drivers)

  console.log('\nWhat to do')
  if (advice.length === 0) console.log(`  Nothing: ${auto} is used.`)
  for (const sentence of advice) console.log(`  - ${printable(sentence)}`)
  const results = trialCacheFile()
  if (results && devices.length > 1)
    console.log(`\nResults of trials are kept in ${results}; ggflux doctor --retry makes new ones.`)
}

function printDrivers({ cuda, vulkan }: NativeDrivers): void {
  console.log(`  NVIDIA: ${cuda ? printable(cuda.driver || 'installed') : 'none'}`)
  if (!vulkan) console.log('  Vulkan: the loader is not installed')
  else if (vulkan.length === 0) console.log('  Vulkan: no driver')
  for (const { name, driver, kind } of vulkan ?? [])
    console.log(`  Vulkan: ${printable(name)} (${kind}), driver ${printable(driver)}`)
}
