import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import { formatParameters } from '../../../lib/images/infotext.js'

const { version } = createRequire(import.meta.url)('../../../package.json')

/** reads the text as A1111's parse_generation_parameters does: last line is settings, before it the prompts */
function parse(text: string) {
  const lines = text.split('\n')
  const settings: Record<string, string> = {}
  const field = /\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g
  for (const [, name, value] of lines.pop()!.matchAll(field))
    settings[name!] = value!.startsWith('"') ? JSON.parse(value!) : value!
  const split = lines.findIndex((line) => line.startsWith('Negative prompt:'))
  const prompt = (split < 0 ? lines : lines.slice(0, split)).join('\n')
  const negativePrompt = split < 0 ? '' : lines.slice(split).join('\n').replace('Negative prompt: ', '')
  return { prompt, negativePrompt, settings }
}

const base = {
  prompt: 'a fox, oil on canvas',
  steps: 4,
  sampler: 'euler',
  scheduler: 'official',
  seed: 1,
  width: 128,
  height: 96,
}

test('the plain form, word for word', () => {
  expect(formatParameters({ ...base, guidance: 3.5, model: 'flux1-dev-Q4_K_S' })).toBe(
    'a fox, oil on canvas\nSteps: 4, Sampler: Euler, Schedule type: Official, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, ' +
      `Size: 128x96, Model: flux1-dev-Q4_K_S, Version: ggflux ${version}`,
  )
})

test('prompts, quoted values and further fields come back', () => {
  const parsed = parse(
    formatParameters({
      ...base,
      prompt: '猫 🙂\nsecond line: with, signs',
      negativePrompt: 'blurry\nlow quality',
      trueCfg: 2.5,
      seed: 2 ** 53 - 1,
      model: 'mine, "v2": best',
      extra: { 'Denoising strength': 0.6, 'Lora hashes': 'a: 1, b: 2', Unset: undefined },
    }),
  )
  expect(parsed.prompt).toBe('猫 🙂\nsecond line: with, signs')
  expect(parsed.negativePrompt).toBe('blurry\nlow quality')
  expect(parsed.settings).toEqual({
    Steps: '4',
    Sampler: 'Euler',
    'Schedule type': 'Official',
    'CFG scale': '2.5',
    Seed: '9007199254740991',
    Size: '128x96',
    Model: 'mine, "v2": best',
    'Denoising strength': '0.6',
    'Lora hashes': 'a: 1, b: 2',
    Version: `ggflux ${version}`,
  })
})

test('what is absent leaves no field', () => {
  const { negativePrompt, settings } = parse(formatParameters({ ...base, negativePrompt: '' }))
  expect(negativePrompt).toBe('')
  expect(settings).not.toHaveProperty('Distilled CFG Scale')
  expect(settings).not.toHaveProperty('Model')
})

test('a picture without prompt still carries its settings', () => {
  expect(formatParameters({ ...base, prompt: '' })).toMatch(/^Steps: 4, /)
})
