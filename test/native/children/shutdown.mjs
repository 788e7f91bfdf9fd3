// What a program meets that goes on after the native part was shut down: shutdown.mjs WEIGHTS
import { T5Encoder } from '../../../dist/nn.js'
import { nativeAddon } from '../../../dist/native/addon.js'

const code = (work) =>
  work.then(
    () => 'done',
    (error) => `${error.name} ${error.code}`,
  )
const [weights] = process.argv.slice(2)
const tokens = new Int32Array(512)
const t5 = await T5Encoder.load(weights, { threads: 2 })
const running = code(t5.encode(tokens))
nativeAddon().shutdown()
nativeAddon().shutdown()
console.log(await running)
console.log(await code(t5.encode(tokens)))
console.log(await code(T5Encoder.load(weights)))
console.log(await code(t5.close()))
