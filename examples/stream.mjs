// Every step with a preview: node stream.mjs "a small red circle" previews
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeImage, FluxPipeline } from 'ggflux'

const [prompt = 'a large green triangle on a black background', folder = 'previews'] = process.argv.slice(2)
await mkdir(folder, { recursive: true })

const pipe = await FluxPipeline.load('tiny')
try {
  // the image goes on while the loop's body runs; `break` ends the work
  for await (const event of pipe.stream({ prompt, preview: { every: 2 } })) {
    if (event.type === 'step') {
      const { step, steps, ms, preview } = event
      console.log(`step ${step} of ${steps}, ${ms.toFixed()} ms`)
      if (!preview) continue
      // small: one pixel for 8 x 8 of the image
      const { data, width, height } = preview
      await writeFile(join(folder, `step-${String(step).padStart(4, '0')}.png`), await encodeImage(data, width, height))
    }
    if (event.type === 'image') {
      await writeFile(join(folder, 'image.png'), event.image)
      console.log(event.parameters)
    }
  }
} finally {
  await pipe.close()
}
