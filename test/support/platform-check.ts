import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/** Runs a script that compiles ggflux for another platform and checks it there. It ends with the code 2 where it cannot run. */
export function testPlatform(name: string, script: string): void {
  // a cold compiler cache on two busy cores takes most of it
  test(name, { timeout: 1_200_000 }, async ({ skip }) => {
    const path = fileURLToPath(new URL(`../../scripts/${script}`, import.meta.url))
    const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += String(bytes)))
    const [status] = (await once(child, 'close')) as [number | null]
    console.log(output)
    if (status === 2) skip(output.trim())
    expect(status, output).toBe(0)
  })
}
