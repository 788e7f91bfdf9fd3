import type { Command } from 'commander'
import { formatBytes, printable, table } from './format.js'

export function devicesCommand(program: Command): void {
  program
    .command('devices')
    .description('list the devices of this machine that can compute')
    .option('--json', 'print one JSON array')
    .addHelpText(
      'after',
      `\nExamples:\n  ggflux devices\n  ggflux devices --json\n  ggflux generate "a red fox" --backend cpu`,
    )
    .action(listDevices)
}

async function listDevices({ json }: { json?: true }): Promise<void> {
  const { chooseDevice, devices } = await import('../native/devices.js')
  const auto = chooseDevice('auto')
  const found = devices().map((device) => ({ ...device, auto: device.name === auto }))
  if (json) return console.log(JSON.stringify(found, null, 2))
  const size = (bytes: number) => (bytes === 0 ? 'unknown' : formatBytes(bytes))
  const rows = found.map(({ auto, name, kind, description, memoryFree, memoryTotal }) => [
    auto ? '*' : '',
    name,
    kind,
    printable(description),
    size(memoryFree),
    size(memoryTotal),
  ])
  console.log(table([['', 'NAME', 'KIND', 'DESCRIPTION', 'FREE', 'MEMORY'], ...rows], [4, 5]))
  console.log(`\n* is what --backend auto takes`)
}
