import type { Command } from 'commander'
import { findPreset, presetNames } from '../hub/presets.js'
import type { ModelFiles } from '../index.js'
import { printWarning } from './failure.js'
import { formatBytes, formatSeconds, table } from './format.js'
import { withProgress } from './write-progress.js'

export function pullCommand(program: Command): void {
  const files = presetNames().filter((name) => findPreset(name)!.isFile)
  const models = presetNames().filter((name) => !files.includes(name))
  program
    .command('pull')
    .description("download a model from the hub into the cache of Hugging Face's tools")
    .argument('<model>', 'a preset, hf:owner/name:quantisation, or hf:owner/name@revision:file')
    .option('--only', 'download only this file (a LoRA, an encoder), not a whole model, nor what the file needs')
    .option('--json', 'print one JSON object')
    .option('--quiet', 'print only errors')
    .addHelpText(
      'after',
      `
Presets: ${models.join(', ')}; optionally with a quantisation, as in flux.1-dev:Q8_0.
Presets that are one file, for --lora, --controlnet, --ip-adapter, --redux, --siglip or --clip-vision:
  ${files.join('\n  ')}
Interrupted downloads resume. Honours HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE.

Examples:
  ggflux pull flux.1-schnell
  ggflux pull hf:city96/FLUX.1-dev-gguf:Q8_0
  ggflux pull flux.1-redux-dev
  ggflux pull hf:owner/some-lora:style.safetensors --only
  ggflux generate "a red fox in the snow" --model flux.1-schnell`,
    )
    .action(pullModel)
}

async function pullModel(
  model: string,
  { only, json, quiet }: { only?: true; json?: true; quiet?: true },
): Promise<void> {
  const { pull, pullFile, pullFiles } = await import('../hub/pull.js')
  const preset = findPreset(model)
  let downloaded = 0
  const { result, seconds } = await withProgress<string | ModelFiles | Record<string, string>>(
    json ?? quiet,
    (signal, onProgress) => {
      const options = {
        signal,
        onWarning: json || quiet ? () => {} : printWarning,
        onProgress: (done: number, total: number) => onProgress((downloaded = done), total),
      }
      if (only) return pullFile(model, options)
      return preset?.isFile ? pullFiles({ file: model, ...preset.needs }, options) : pull(model, options)
    },
    'asking the hub',
  )
  const { tokenizers = {}, ...parts } = typeof result === 'string' ? { file: result } : result
  const places = {
    ...parts,
    ...Object.fromEntries(Object.entries(tokenizers).map(([name, path]) => [`${name} tokenizer`, path])),
  }
  if (json) console.log(JSON.stringify(result))
  else if (!quiet) {
    console.log(table(Object.entries(places).map(([name, path]) => [name, path as string])))
    console.log(downloaded > 0 ? `${formatBytes(downloaded)} in ${formatSeconds(seconds)}` : 'all was there already')
  }
}
