import type { Command } from 'commander'
import { availableParallelism } from 'node:os'
import { VERSION } from '../version.js'
import { formatBytes, printable } from './format.js'

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('tell which graphics cards can be used, which cannot and why, and what to install')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExamples:\n  ggflux doctor\n  ggflux doctor --json > report.json')
    .action(examine)
}

async function examine({ json }: { json?: true }): Promise<void> {
  const { diagnose } = await import('../native/diagnosis.js')
  const { findAddon, glibcVersion, PLATFORM } = await import('../native/locate.js')
  const addon = findAddon()
  const diagnosis = await diagnose((device) => {
    process.stderr.write(`trying ${device}, once for this version of its driver\n`)
  })
  if (json) {
    console.log(
      JSON.stringify({ version: VERSION, platform: PLATFORM, node: process.version, addon, ...diagnosis }, null, 2),
    )
    return
  }
  const { devices, auto, modules, drivers, advice } = diagnosis
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
  if (modules.length === 0) console.log('  none is installed')
  for (const { backend, file, failure } of modules)
    console.log(`  ${backend}: ${failure ? printable(failure) : 'loaded'}\n    ${file}`)
  console.log('\nDrivers')
  const { cuda, vulkan } = drivers
  console.log(`  NVIDIA: ${cuda ? printable(cuda.driver || 'installed') : 'none'}`)
  if (!vulkan) console.log('  Vulkan: the loader is not installed')
  else if (vulkan.length === 0) console.log('  Vulkan: no driver')
  for (const { name, driver, kind } of vulkan ?? [])
    console.log(`  Vulkan: ${printable(name)} (${kind}), driver ${printable(driver)}`)

  console.log('\nWhat to do')
  if (advice.length === 0) console.log(`  Nothing: ${auto} is used.`)
  for (const sentence of advice) console.log(`  - ${printable(sentence)}`)
  if (advice.length > 0) console.log(`  Until then ${auto} is used.`)
}
