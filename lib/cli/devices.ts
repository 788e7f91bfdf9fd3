import type { Command } from 'commander'
import { formatBytes, printable, table } from './format.js'
import { printTrial } from './live-line.js'

export function devicesCommand(program: Command): void {
  program
    .command('devices')
    .description('list the devices of this machine that can compute')
    .option('--json', 'print one JSON array')
    .addHelpText(
      'after',
      `
Examples:
  ggflux devices
  ggflux devices --json
  ggflux generate "a red fox" --backend cpu

If a GPU is missing here, \`ggflux doctor\` shows why.`,
    )
    .action(listDevices)
}

async function listDevices({ json }: { json?: true }): Promise<void> {
  const { chooseDevice, devices, gpuWarnings, loadGpus } = await import('../native/devices.js')
  const { name: auto } = await chooseDevice('auto', { onTrial: printTrial })
  const found = (await devices()).map((device) => ({ ...device, auto: device.name === auto }))
  for (const warning of gpuWarnings((await loadGpus()).modules, [])) process.stderr.write(`${printable(warning)}\n`)
  if (json) return console.log(JSON.stringify(found, null, 2))
  const size = (bytes: number) => (bytes === 0 ? 'unknown' : formatBytes(bytes))
  const rows = found.map(({ auto, name, kind, integrated, description, driver, memoryFree, memoryTotal, refused }) => [
    auto ? '*' : '',
    name,
    integrated ? 'integrated gpu' : kind,
    printable(description),
    printable(driver ?? ''),
    size(memoryFree),
    size(memoryTotal),
    refused ? `no: ${printable(refused)}` : 'yes',
  ])
  console.log(table([['', 'NAME', 'KIND', 'DESCRIPTION', 'DRIVER', 'FREE', 'MEMORY', 'USABLE'], ...rows], [5, 6]))
  console.log(`\n* is what --backend auto takes`)
}
