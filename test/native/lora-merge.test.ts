import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { LoraOptions } from '../../lib/nn.js'
import { convert } from '../../lib/tools/convert.js'
import { goldenWeights } from '../support/golden.js'
import { formatFile, FORMATS, merged } from '../support/lora-formats.js'
import { expectToMerge, official } from '../support/lora.js'
import { temporaryFolder } from '../support/temporary.js'

// `convert` writes the weights that a LoRA makes of the model's. What it writes of other kinds of LoRA is compared where these are tested.

const folder = temporaryFolder()
const path = join(folder, 'lora.safetensors')
let expected: string
beforeAll(async () => void (expected = await merged(join(folder, 'merged.safetensors'), 0.8)))

test.each(Object.keys(FORMATS))('a LoRA of %s is merged by convert', async (format) =>
  expectToMerge({ path: await formatFile(path, format), scale: 0.8 }, expected, folder),
)

test('what convert cannot merge, it refuses', async () => {
  await formatFile(path, 'kohya')
  const into = (input: string, loras: LoraOptions[]) =>
    convert(input, join(folder, 'refused.gguf'), { type: 'F16', loras })
  await expect(into(await goldenWeights('t5-tiny'), [{ path }])).rejects.toMatchObject({
    code: 'FLUX_UNSUPPORTED',
    message: expect.stringMatching(/into a transformer only/) as string,
  })
  await expect(into(official, [{ path, scale: 1e9 }])).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
})
