// Reads a LoRA's file for the transformer, T5 and CLIP of FLUX.1, for a process that may open few files: adapt.mjs LORA
import { inspect } from '../../../dist/index.js'

console.log(JSON.stringify(await inspect(process.argv[2])))
