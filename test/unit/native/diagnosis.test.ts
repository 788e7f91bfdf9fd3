import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { advise, cudaVersion, graphicsCards, type Diagnosis } from '../../../lib/native/diagnosis.js'
import type { Device } from '../../../lib/native/devices.js'
import { temporaryFolder } from '../../support/temporary.js'

const cpu: Device = {
  name: 'CPU',
  description: 'a processor',
  kind: 'cpu',
  backend: 'CPU',
  integrated: false,
  memoryTotal: 16e9,
  memoryFree: 12e9,
}
const gpu: Device = { ...cpu, name: 'Vulkan0', description: 'Radeon RX 6600', kind: 'gpu', backend: 'Vulkan' }
const radeon = { name: 'Radeon RX 6600', kind: 'discrete', driver: 'radv Mesa 25.0.7', halfStorage: true } as const
const software = { ...radeon, name: 'llvmpipe', kind: 'software' } as const
const module = { backend: 'vulkan', file: '/packages/libggml-vulkan.so' } as const

const found = (facts: Partial<Omit<Diagnosis, 'advice'>> = {}): Omit<Diagnosis, 'advice'> => ({
  devices: [cpu],
  auto: 'CPU',
  modules: [],
  drivers: {},
  driverFailure: '',
  cards: [],
  ...facts,
})

describe('what doctor advises', () => {
  test('nothing, where a GPU is used', () => {
    const facts = found({ devices: [cpu, gpu], auto: 'Vulkan0', modules: [module], drivers: { vulkan: [radeon] } })
    expect(advise(facts, 'linux-x64')).toEqual([])
  })

  test.each<[string, Partial<Omit<Diagnosis, 'advice'>>, string, RegExp]>([
    ['no card', {}, 'linux-x64', /^No graphics card was found\. ggflux computes with the CPU\.$/],
    [
      'a card from AMD without driver and loader',
      { cards: ['AMD'] },
      'linux-x64',
      /loader is not installed.*from AMD.*apt install libvulkan1 mesa-vulkan-drivers/,
    ],
    [
      'a card from Intel without a driver',
      { cards: ['Intel'], drivers: { vulkan: [] } },
      'linux-x64',
      /^This machine has a graphics card from Intel.*apt install mesa-vulkan-drivers/,
    ],
    [
      'a card from NVIDIA without a driver',
      { cards: ['NVIDIA'] },
      'linux-x64',
      /NVIDIA's driver, version 580.*ggflux setup/,
    ],
    [
      "NVIDIA's driver without a module",
      { drivers: { cuda: { version: 13000, driver: '580.65.06' } } },
      'win32-x64',
      /580\.65\.06, but the CUDA module is not installed\. Run: npx ggflux setup$/,
    ],
    [
      "NVIDIA's driver before CUDA 13",
      { drivers: { cuda: { version: 12040, driver: '550.54' } } },
      'linux-x64',
      /550\.54 supports CUDA 12\.4, and ggflux needs 13\.0: update the driver/,
    ],
    [
      'a card that Vulkan knows, without a module',
      { drivers: { vulkan: [radeon, software] } },
      'linux-x64',
      /^Vulkan knows Radeon RX 6600, but the Vulkan module is not installed/,
    ],
    ['Windows without a driver', {}, 'win32-x64', /install the driver from its maker/],
    ['a Mac with an Intel processor', {}, 'darwin-x64', /Apple silicon only/],
    [
      "a module that lacks CUDA's libraries",
      {
        modules: [{ backend: 'cuda', file: '/m.so', failure: 'libcublas.so.13: cannot open shared object file' }],
        drivers: { cuda: { version: 13000, driver: '580.65.06' } },
      },
      'linux-x64',
      /^The cuda module cannot be used: libcublas.*apt install cuda-libraries-13-0/,
    ],
    [
      'a driver that fails',
      { driverFailure: 'it ended' },
      'linux-x64',
      /^No GPU is used, because a driver failed: it ended\./,
    ],
    [
      'a refused device',
      { devices: [cpu, { ...gpu, refused: 'it computes wrongly (softmax)' }], modules: [module] },
      'linux-x64',
      /^Vulkan0 \(Radeon RX 6600\) is not used: it computes wrongly \(softmax\)\.$/,
    ],
  ])('%s', (_, facts, platform, expected) => {
    expect(advise(found(facts), platform)[0]).toMatch(expected)
  })

  test('a card in software alone is no reason to hurry', () => {
    expect(advise(found({ drivers: { vulkan: [software] }, modules: [module] }), 'linux-x64')).toContainEqual(
      expect.stringMatching(/^llvmpipe imitates a graphics card on the CPU/),
    )
  })

  test('a missing driver is told once, not for each module', () => {
    const modules = [{ ...module, failure: 'the Vulkan loader is not installed', noDriver: true }]
    expect(advise(found({ modules }), 'linux-x64')).toHaveLength(1)
  })
})

test("versions of CUDA are written as NVIDIA's documents do", () => {
  expect([12040, 13000, 13020].map(cudaVersion)).toEqual(['12.4', '13.0', '13.2'])
})

test('the makers of the cards are read from the bus', () => {
  const folder = temporaryFolder()
  for (const [card, vendor] of [
    ['card0', '0x8086'],
    ['card1', '0x10de'],
    ['card1-DP-1', '0x1002'],
    ['renderD128', '0x1002'],
  ]) {
    mkdirSync(join(folder, card!, 'device'), { recursive: true })
    writeFileSync(join(folder, card!, 'device', 'vendor'), `${vendor}\n`)
  }
  expect(graphicsCards(folder)).toEqual(['Intel', 'NVIDIA'])
  expect(graphicsCards(join(folder, 'missing'))).toEqual([])
})
