// Loads the tiny model into a child process of this one, reports when it is there and when a job of minutes has begun, and then ends in the way that is
// asked for: by itself, or never.
import { ImagePipeline } from '../../../dist/index.js'

const [how] = process.argv.slice(2)
const pipe = await ImagePipeline.load('tiny', { isolate: true, backend: 'cpu' })
if (how === 'ends') {
  const image = await pipe.generate({ prompt: 'a red circle', width: 64, height: 64, steps: 1, format: 'raw' })
  process.stdout.write(`${image.length}\n`)
} else {
  for await (const event of pipe.stream({ prompt: 'a red circle', width: 512, height: 512, steps: 500 }))
    if (event.type === 'step' && event.step === 1) {
      process.stdout.write('drawing\n')
      if (how === 'exits') process.exit(7)
    }
}
