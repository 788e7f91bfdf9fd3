import type { DrawOptions } from '../pipeline/engine.js'
import { HttpError } from './errors.js'

/** `<lora:name:weight>`; the weight may be left out, and more may follow it */
const TAG = /<lora:([^:<>]{1,200})(?::([^:<>]{0,30}))?(?::[^<>]{0,200})?>/g

/**
 * Takes the LoRAs out of a prompt. A1111 goes by the name of the file alone, whatever its folder is. There a LoRA that
 * does not exist is left out without an error; here the request fails, because nobody would see why the image is
 * another. Source: AUTOMATIC1111/stable-diffusion-webui `modules/extra_networks.py` (`parse_prompt`).
 *
 * @param names those that exist, `/` between folder and file
 * @throws {HttpError} 404 for a LoRA that does not exist, 400 for a weight that is no number
 */
export function takeLoras(text: string, names: readonly string[]): Pick<DrawOptions, 'prompt' | 'loras'> {
  const loras: NonNullable<DrawOptions['loras']>[number][] = []
  const prompt = text.replace(TAG, (_, name: string, weight = '1') => {
    const scale = Number(weight)
    if (weight.trim() === '' || !Number.isFinite(scale))
      throw new HttpError(
        400,
        'FLUX_BAD_OPTION',
        `the LoRA '${name}' has the weight '${weight}': give a number`,
        'prompt',
      )
    loras.push({ path: found(name, names), scale })
    return ''
  })
  return loras.length > 0 ? { prompt: prompt.trim(), loras } : { prompt: text }
}

function found(wanted: string, names: readonly string[]): string {
  const name = wanted.replace(/\.(gguf|safetensors|sft)$/i, '')
  const known = names.includes(name) ? name : names.find((one) => loraAlias(one) === name)
  if (known !== undefined) return known
  const shown = names.length > 0 ? `there are ${names.slice(0, 20).join(', ')}` : 'this server has none (--loras)'
  throw new HttpError(
    404,
    'FLUX_NOT_FOUND',
    `the prompt asks for the LoRA '${wanted}', which does not exist; ${shown}`,
    'prompt',
  )
}

/** The name without its folder. */
export function loraAlias(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1)
}
