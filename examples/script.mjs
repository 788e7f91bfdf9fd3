// A prompt becomes a file: node script.mjs "a small red circle left of a large blue square on a white background" image.png
import { writeFile } from 'node:fs/promises'
import { FluxPipeline } from 'ggflux'

const [prompt = 'a large green triangle on a black background', path = 'image.png'] = process.argv.slice(2)
const interrupt = new AbortController()
process.once('SIGINT', () => interrupt.abort())
const { signal } = interrupt

try {
  // 'tiny' comes with ggflux; your own model: { transformer: 'flux1-schnell-Q4_0.gguf', t5: '…', clip: '…', vae: '…' }
  const pipe = await FluxPipeline.load('tiny', { signal })
  const image = await pipe.generate({ prompt, signal }).finally(() => pipe.close())
  await writeFile(path, image)
  console.log(path)
} catch (error) {
  if (!signal.aborted) throw error
  process.exitCode = 130
}
