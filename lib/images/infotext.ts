import type { FoundParameters } from './restore-options.js'
import { SAMPLER_LABELS, SCHEDULER_LABELS } from '../sampling/labels.js'
import { VERSION } from '../version.js'

export interface GenerationParameters {
  prompt: string
  negativePrompt?: string | undefined
  steps: number
  sampler: string
  scheduler: string
  /** the distilled guidance; absent for models without it */
  guidance?: number | undefined
  /** scale of true classifier-free guidance. @default 1, which means none */
  trueCfg?: number | undefined
  seed: number
  width: number
  height: number
  model?: string | undefined
  /** additional fields by the names that readers know, such as `Denoising strength` */
  extra?: Record<string, string | number | undefined>
}

/**
 * Formats how an image was generated, in the form that A1111, Forge, ComfyUI's readers and galleries understand: the
 * prompt, then `Negative prompt: …` if there is one, then one line `Steps: 4, Sampler: Euler, …`. Values with a comma,
 * colon or line break are quoted as JSON strings.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/processing.py` (`create_infotext`), `modules/infotext_utils.py`
 * (`quote`); `Distilled CFG Scale` is Forge's name for the guidance.
 */
export function formatParameters(parameters: GenerationParameters): string {
  const {
    prompt,
    negativePrompt,
    steps,
    sampler,
    scheduler,
    guidance,
    trueCfg = 1,
    seed,
    width,
    height,
    model,
    extra,
  } = parameters
  const fields = {
    Steps: steps,
    Sampler: labelOf(SAMPLER_LABELS, sampler),
    'Schedule type': labelOf(SCHEDULER_LABELS, scheduler),
    'CFG scale': trueCfg,
    'Distilled CFG Scale': guidance,
    Seed: seed,
    Size: `${width}x${height}`,
    Model: model,
    ...extra,
    Version: `ggflux ${VERSION}`,
  }
  const settings = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${quote(String(value))}`)
  const negative = negativePrompt ? `\nNegative prompt: ${negativePrompt}` : ''
  return `${prompt}${negative}\n${settings.join(', ')}`.trim()
}

function quote(value: string): string {
  return /[,:\n]/.test(value) ? JSON.stringify(value) : value
}

/** 'custom', which is no scheduler, to 'Custom' */
function labelOf(labels: Readonly<Record<string, string>>, name: string): string {
  return Object.hasOwn(labels, name) ? labels[name]! : name.charAt(0).toUpperCase() + name.slice(1)
}

/** a settings line has at least this many fields, otherwise it is part of the prompt */
const FEWEST_FIELDS = 3

/**
 * Reads what {@link formatParameters} or A1111 wrote. `<lora:name:scale>` in the prompt becomes a LoRA.
 *
 * Source: AUTOMATIC1111/stable-diffusion-webui `modules/infotext_utils.py` (`parse_generation_parameters`).
 */
export function parseParameters(text: string): FoundParameters & { isOurs: boolean } {
  const lines = text.trim().split('\n')
  const fields = readFields(lines.at(-1)!)
  if (fields.size >= FEWEST_FIELDS) lines.pop()
  else fields.clear()
  const negative = lines.findIndex((line) => line.startsWith('Negative prompt:'))
  const prompts = negative < 0 ? lines : lines.slice(0, negative)
  const negatives = negative < 0 ? [] : lines.slice(negative)
  const isOurs = /^ggflux /.test(fields.get('Version') ?? '')
  const { prompt, loras } = isOurs
    ? { prompt: prompts.join('\n'), loras: readLoras(fields.get('LoRA')) }
    : withoutLoras(prompts.join('\n').trim())
  const [width, height] = /^(\d+)x(\d+)$/.exec(fields.get('Size') ?? '')?.slice(1) ?? []
  // before A1111 1.9 the schedule was part of the sampler's name
  const [sampler, schedule] = splitSampler(fields.get('Sampler'))
  const known = ['Steps', 'Sampler', 'Schedule type', 'CFG scale', 'Distilled CFG Scale', 'Seed', 'Size', 'Version']
  return {
    isOurs,
    prompt,
    negativePrompt: negatives.join('\n').replace(/^Negative prompt:\s?/, '') || undefined,
    steps: fields.get('Steps'),
    sampler,
    scheduler: fields.get('Schedule type') ?? schedule,
    guidance: fields.get('Distilled CFG Scale'),
    trueCfg: fields.get('CFG scale'),
    seed: fields.get('Seed'),
    width,
    height,
    loras,
    unmapped: [...fields].filter(([name]) => !known.includes(name) && !(isOurs && name === 'LoRA')),
  }
}

/** limits for hostile files: characters of a settings line and of a name in it, and number of fields */
const [MOST_LINE, MOST_NAME, MOST_FIELDS] = [2 ** 20, 100, 1000]

/** Splits `name: value, name: "a, b", …`. Parts that are no field are skipped. Takes time in proportion to the length. */
function readFields(line: string): Map<string, string> {
  const fields = new Map<string, string>()
  if (line.length > MOST_LINE) return fields
  const quoted = /"(?:\\.|[^\\"])*"/y
  for (let at = 0; at < line.length && fields.size < MOST_FIELDS; ) {
    const comma = end(line, ',', at)
    const part = line.slice(at, comma)
    const colon = at + part.indexOf(':')
    const name = colon < at ? '' : line.slice(at, Math.min(colon, at + MOST_NAME)).trim()
    if (!/^\w[\w \-/]*$/.test(name)) {
      at = comma + 1
      continue
    }
    quoted.lastIndex = colon + 1 + /^ */.exec(line.slice(colon + 1, colon + 9))![0].length
    const match = quoted.exec(line)
    const last = match ? end(line, ',', quoted.lastIndex) : comma
    fields.set(name, match ? unquote(match[0]) : line.slice(colon + 1, last).trim())
    at = last + 1
  }
  return fields
}

function end(text: string, mark: string, from: number): number {
  const found = text.indexOf(mark, from)
  return found < 0 ? text.length : found
}

function unquote(value: string): string {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/** `a 1 + b 0.5` */
function readLoras(text: string | undefined): FoundParameters['loras'] {
  return (text ?? '').split(' + ').flatMap((part) => {
    const space = part.lastIndexOf(' ')
    return space < 1 ? [] : [{ name: part.slice(0, space), scale: Number(part.slice(space + 1)) }]
  })
}

function withoutLoras(prompt: string): { prompt: string; loras: FoundParameters['loras'] } {
  const loras: FoundParameters['loras'] = []
  const plain = prompt.replace(/<lora:([^:<>]{1,200}):(-?[\d.]{1,20})(?::[^<>]{0,200})?>/g, (_, name, scale) => {
    loras.push({ name, scale: Number(scale) })
    return ''
  })
  return { prompt: loras.length > 0 ? plain.trim() : prompt, loras }
}

function splitSampler(label: string | undefined): [sampler: string | undefined, schedule: string | undefined] {
  const match = /^(.+) (Karras|Exponential|SGM Uniform)$/.exec(label ?? '')
  return match ? [match[1], match[2]] : [label, undefined]
}
