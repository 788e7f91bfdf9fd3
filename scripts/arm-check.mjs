// Compiles ggflux for Linux on Arm and checks it in an emulator (qemu) with Node.js for Arm: devices, and networks against the reference data.
//   node scripts/arm-check.mjs [--variants native|all] [--no-build] [test/native/golden.test.ts …]
// Debian, Ubuntu: apt install g++-aarch64-linux-gnu qemu-user-static
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import {
  compileFor,
  compileTests,
  findProgram,
  foreignNode,
  report,
  root,
  runCheck,
  runToFile,
  whyNoNode,
} from './foreign-node.mjs'

/** Why the check cannot run here; undefined if it can. */
function whyNotArm() {
  if (!findProgram('aarch64-linux-gnu-g++')) return 'g++-aarch64-linux-gnu is not installed'
  if (!findProgram('qemu-aarch64-static')) return 'qemu-user-static is not installed'
  return whyNoNode('linux-arm64')
}

async function main(options, files) {
  const addon = compileFor('linux-arm64', options)
  const node = foreignNode('linux-arm64')
  const temporary = mkdtempSync(path.join(os.tmpdir(), 'ggflux-arm-'))
  const run = async (args) => {
    const { status, output } = await runToFile(
      findProgram('qemu-aarch64-static'),
      ['-L', '/usr/aarch64-linux-gnu', node, ...args],
      { log: path.join(temporary, 'output.txt'), seconds: 1800, env: { ...process.env, GGFLUX_ADDON: addon } },
    )
    assert.equal(status, 0, `${args.join(' ')}\n${output}`)
    return output
  }
  const compiled = compileTests()
  const shim = path.join(root, 'test', 'support', 'without-vitest', 'run.mjs')
  const test = (file, only = '') => [
    `${file} ${only}`.trim(),
    async () => console.log((await run([shim, compiled, file, only])).trim().split('\n').at(-1)),
  ]
  try {
    await report([
      ['devices', async () => assert.match(await run([path.join('dist', 'cli', 'main.js'), 'devices']), /CPU/)],
      ...(files.length > 0
        ? files.map((file) => test(file))
        : ['clip-tiny', 't5-tiny'].map((network) => test('test/native/golden.test.ts', network))),
    ])
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

await runCheck(whyNotArm, main)
