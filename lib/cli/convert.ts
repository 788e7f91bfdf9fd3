import { Option, type Command } from 'commander'
import { FluxError } from '../errors.js'
import type { ConvertOptions, LoraOptions } from '../index.js'
import type { FileType } from '../tools/synth/gguf-metadata.js'
import { addLora } from './arguments.js'
import { formatBytes, formatSeconds } from './format.js'
import { checkTarget } from './output.js'
import { withProgress } from './write-progress.js'

interface Options extends Pick<ConvertOptions, 'network' | 'tokenizer'> {
  lora?: LoraOptions[]
  output: string
  type: string
  tensorType: [pattern: string, type: FileType][]
  quiet?: true
}

export function convertCommand(program: Command): void {
  program
    .command('convert')
    .description('write a model file in other types, from any supported layout')
    .argument('<file>', '.gguf or .safetensors; for a sharded model any shard or its index')
    .requiredOption('-o, --output <file>', '.gguf, or .safetensors (F32, F16, BF16)')
    .requiredOption('--type <name>', 'type of the matrices: f16, bf16, q8_0, q6_k, q5_k, q4_k, q4_0 and others')
    .addOption(
      new Option('--tensor-type <name=type>', 'type of the matrices whose names contain this; may be repeated')
        .argParser(collectType)
        .default([], 'none'),
    )
    .addOption(
      new Option('--network <name>', 'which network of a checkpoint with several (default: transformer)').choices([
        'transformer',
        't5',
        'clip',
        'vae',
      ]),
    )
    .option('--lora <file[:scale]>', 'merge this LoRA into the transformer; may be repeated (default: 1)', addLora)
    .option(
      '--tokenizer <path>',
      "T5's tokenizer, to store in its GGUF file (default: inside the input, or next to it)",
    )
    .option('--quiet', 'print only errors')
    .addHelpText(
      'after',
      `
Norms, biases and small tensors stay in F32, the first and last layers of the transformer in BF16.

Examples:
  ggflux convert flux1-dev.safetensors -o flux1-dev-Q4_K.gguf --type q4_k
  ggflux convert diffusion_pytorch_model.safetensors.index.json -o flux1-dev-Q8_0.gguf --type q8_0
  ggflux convert t5xxl_fp16.safetensors -o t5xxl-Q8_0.gguf --type q8_0 --tokenizer spiece.model
  ggflux convert flux1-dev.safetensors -o mixed.gguf --type q4_k --tensor-type img_mlp=q6_k
  ggflux convert flux1-dev.safetensors -o styled-Q8_0.gguf --type q8_0 --lora style.safetensors:0.8`,
    )
    .action(convertFile)
}

async function convertFile(
  input: string,
  { output, type, tensorType, quiet, network, lora, tokenizer }: Options,
): Promise<void> {
  await checkTarget(output)
  const { convert } = await import('../tools/convert.js')
  const { result, seconds } = await withProgress(quiet, (signal, onProgress) =>
    convert(input, output, {
      type: type.toUpperCase() as FileType,
      tensorTypes: tensorType,
      signal,
      onProgress,
      ...(network === undefined ? {} : { network }),
      ...(lora === undefined ? {} : { loras: lora }),
      ...(tokenizer === undefined ? {} : { tokenizer }),
    }),
  )
  for (const [i, [name, ...more]] of result.unmatched.entries()) {
    if (name !== undefined)
      process.stderr.write(
        `${lora![i]!.path}: ${name}${more.length > 0 ? ` and ${more.length} more names belong` : ' belongs'} to no layer of the transformer\n`,
      )
  }
  const types = Object.entries(result.types)
    .map(([type, count]) => `${type} ${count}`)
    .join(', ')
  if (!quiet) console.log(`${result.path}  ${formatBytes(result.size)}  ${formatSeconds(seconds)}  ${types}`)
}

function collectType(text: string, types: Options['tensorType']): Options['tensorType'] {
  const [, pattern, type] = /^([^=]+)=(.+)$/.exec(text) ?? []
  if (!pattern || !type)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `--tensor-type is '${text}': give a part of a name and a type, such as img_mlp=q6_k`,
    )
  return [...types, [pattern, type.toUpperCase() as FileType]]
}
