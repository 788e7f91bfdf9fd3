import type { FoundParameters } from './restore-options.js'

/** A node of ComfyUI's `prompt` JSON. An input is a value, or a link [id, output] to another node. */
interface Node {
  type: string
  inputs: Record<string, unknown>
}

type Nodes = Map<string, Node>

const MOST_NODES = 10_000
const MOST_SAMPLERS = 100

/** inputs with a prompt, the one that T5 reads first */
const TEXTS = ['text', 't5xxl', 'clip_l']

/**
 * Finds how an image was made in ComfyUI's `prompt` JSON, the graph as it was executed. Of several samplers the one that
 * starts from an empty latent counts; the others are reported as unmapped.
 *
 * @returns undefined when it is no such graph, or has no sampler
 */
export function readWorkflow(text: string): FoundParameters | undefined {
  const nodes = parseNodes(text)
  if (!nodes) return undefined
  const samplers = [...nodes].filter(([, { inputs }]) => 'latent_image' in inputs).slice(0, MOST_SAMPLERS)
  const fromEmpty = samplers.find(([, node]) => emptyLatent(nodes, node) !== undefined)
  const [id, sampler] = fromEmpty ?? samplers[0] ?? []
  if (!sampler) return undefined

  // a setting is an input of the sampler (KSampler), or of a node that it is linked to (SamplerCustomAdvanced)
  const guider = linked(nodes, sampler.inputs.guider)
  const setting = (...names: string[]) =>
    [
      sampler,
      ...['noise', 'sigmas', 'sampler', 'guider'].flatMap((name) => upstream(nodes, sampler.inputs[name], isSettings)),
    ]
      .flatMap((node) => names.map((name) => literal(nodes, node.inputs[name])))
      .find((value) => value !== undefined)
  const positive = side(
    nodes,
    sampler.inputs.positive ?? guider?.inputs.positive ?? guider?.inputs.conditioning,
    'positive',
  )
  const negative = side(nodes, sampler.inputs.negative ?? guider?.inputs.negative, 'negative')
  const hasNegative = linked(nodes, negative)?.type !== 'ConditioningZeroOut'
  const models = upstream(nodes, sampler.inputs.model ?? guider?.inputs.model)
  const latent = upstream(nodes, sampler.inputs.latent_image)
  const input = (among: Node[], ...names: string[]) =>
    among
      .flatMap(({ inputs }) => names.map((name) => literal(nodes, inputs[name])))
      .find((value) => value !== undefined)

  const conditioning = upstream(nodes, positive)
  const denoise = setting('denoise')
  const others = samplers.filter(([other]) => other !== id).map(([other, { type }]) => `${type} ${other}`)
  return {
    prompt: input(conditioning, ...TEXTS),
    negativePrompt: hasNegative ? input(upstream(nodes, negative), ...TEXTS) : undefined,
    steps: setting('steps'),
    sampler: setting('sampler_name'),
    scheduler: setting('scheduler'),
    seed: setting('seed', 'noise_seed'),
    trueCfg: setting('cfg'),
    guidance: input(conditioning, 'guidance'),
    width: input(latent, 'width'),
    height: input(latent, 'height'),
    loras: models
      .filter(({ inputs }) => typeof inputs.lora_name === 'string')
      .map(({ inputs }) => ({
        name: String(inputs.lora_name),
        scale: Number(literal(nodes, inputs.strength_model) ?? 1),
      }))
      .reverse(),
    unmapped: [
      ['model', input(models, 'unet_name', 'ckpt_name')],
      ['denoise', Number(denoise ?? 1) === 1 ? undefined : denoise],
      ['max_shift', input(models, 'max_shift')],
      ['base_shift', input(models, 'base_shift')],
      ['other samplers', others.join(', ') || undefined],
    ],
  }
}

/** noise, sigmas, sampler and guider, but not what they are linked to: a guider leads to the models and texts */
const isSettings = ({ inputs }: Node) => !('conditioning' in inputs || 'positive' in inputs)

function parseNodes(text: string): Nodes | undefined {
  let graph: unknown
  try {
    graph = JSON.parse(text.replace(STRINGS_AND_ODD_NUMBERS, asJson))
  } catch {
    return undefined
  }
  if (!isRecord(graph)) return undefined
  const nodes: Nodes = new Map()
  for (const [id, node] of Object.entries(graph).slice(0, MOST_NODES)) {
    if (!isRecord(node) || typeof node.class_type !== 'string' || !isRecord(node.inputs)) continue
    nodes.set(id, { type: node.class_type, inputs: node.inputs })
  }
  return nodes
}

/**
 * Python writes NaN and Infinity, which are no JSON, and seeds of 64 bits, which become inexact numbers. Strings are
 * matched as well, so that nothing in them is changed; also one without an end, so that it is searched only once.
 */
const STRINGS_AND_ODD_NUMBERS = /"[^"\\]*(?:\\[^][^"\\]*)*(?:"|\\?$)|-?\b(?:NaN|Infinity)\b|-?\b\d{16,}\b(?![.eE])/g

function asJson(token: string): string {
  if (token.startsWith('"')) return token
  return /[NI]/.test(token) ? 'null' : `"${token}"`
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function linked(nodes: Nodes, value: unknown): Node | undefined {
  return Array.isArray(value) && value.length === 2 ? nodes.get(String(value[0])) : undefined
}

/** The nodes that a link leads to, nearest first. Does not go beyond nodes for which `passes` is false. */
function upstream(nodes: Nodes, link: unknown, passes: (node: Node) => boolean = () => true): Node[] {
  const first = linked(nodes, link)
  const found = new Set(first ? [first] : [])
  for (const node of found) {
    if (!passes(node)) continue
    for (const value of Object.values(node.inputs)) {
      const next = linked(nodes, value)
      if (next) found.add(next)
    }
  }
  return [...found]
}

/** Follows a positive or negative link through nodes that take and return both, such as ControlNets. */
function side(nodes: Nodes, link: unknown, name: 'positive' | 'negative'): unknown {
  for (let depth = 0; depth < 100; depth++) {
    const inputs = linked(nodes, link)?.inputs
    if (!inputs || !('positive' in inputs && 'negative' in inputs)) break
    link = inputs[name]
  }
  return link
}

/** names of the only input of nodes that hold one value */
const PRIMITIVE_INPUTS = ['value', 'int', 'float', 'string', 'seed', 'noise_seed', 'text', 'Value', 'Number']

/** The value of an input, or of the node with one value that it is linked to. */
function literal(nodes: Nodes, value: unknown): string | undefined {
  for (let depth = 0; depth < 8; depth++) {
    if (typeof value === 'string' || typeof value === 'number') return String(value)
    const inputs = linked(nodes, value)?.inputs
    const name = PRIMITIVE_INPUTS.find((name) => inputs && name in inputs)
    if (!inputs || !name) return undefined
    value = inputs[name]
  }
  return undefined
}

/** The node with the size of the latent that a sampler starts from, if no other sampler is in between. */
function emptyLatent(nodes: Nodes, sampler: Node): Node | undefined {
  return upstream(nodes, sampler.inputs.latent_image, ({ inputs }) => !('latent_image' in inputs)).find(
    ({ type, inputs }) => /^Empty/.test(type) && 'width' in inputs && 'height' in inputs,
  )
}
