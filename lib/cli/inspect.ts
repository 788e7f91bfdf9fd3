import { stat } from 'node:fs/promises'
import type { Command } from 'commander'
import { totalMemory } from '../native/free-memory.js'
import type { Inspection, ModelInspection } from '../index.js'
import { formatBytes, formatCount, formatSeconds, printable, table } from './format.js'

const METADATA_LINES = 12

export function inspectCommand(program: Command): void {
  program
    .command('inspect')
    .description('show what model files contain, what a model lacks, and what an image would cost here')
    .argument(
      '<models...>',
      '.gguf or .safetensors files, folders, tiny, presets, hf:owner/name, or one file as hf:owner/name:file (only headers are read from the hub)',
    )
    .option('--json', 'print one JSON array')
    .addHelpText(
      'after',
      `
Examples:
  ggflux inspect flux1-schnell-Q4_0.gguf
  ggflux inspect ComfyUI/models
  ggflux inspect hf:city96/FLUX.1-dev-gguf:Q8_0
  ggflux inspect flux.1-shakker-union-pro-2.0
  ggflux inspect --json *.gguf ae.safetensors`,
    )
    .action(inspectAll)
}

type Failure = { path: string; error: { code: string; message: string } }

async function inspectAll(names: string[], { json }: { json?: true }): Promise<void> {
  const { FluxError } = await import('../errors.js')
  const results: (Inspection | ModelInspection | Failure)[] = []
  for (const path of names) {
    try {
      const result = await inspectOne(path)
      results.push(result)
      if (result.problems.length > 0) process.exitCode = 1
      if (!json)
        console.log(`${results.length > 1 ? '\n' : ''}${'files' in result ? describeModel(result) : describe(result)}`)
    } catch (error) {
      if (!(error instanceof FluxError)) throw error
      results.push({ path, error: { code: error.code, message: error.message } })
      process.exitCode = 1
      console.error(`ggflux: ${printable(error.message)}`)
    }
  }
  if (json) console.log(JSON.stringify(results, null, 2))
}

/**
 * Folders, models, repositories on the hub and 'tiny', the model in this package, are inspected as models. A file is
 * described alone, on the hub as well.
 */
async function inspectOne(name: string): Promise<Inspection | ModelInspection> {
  // whatever is in the current folder, as for --model
  if (name === 'tiny') return (await import('../inspect/model.js')).inspectModel(name)
  const { isOnHub, refuseUnknownPreset } = await import('../hub/plan.js')
  const { findPreset } = await import('../hub/presets.js')
  const { parseReference } = await import('../hub/reference.js')
  const isFolder = await stat(name).then(
    (entry) => entry.isDirectory(),
    () => false,
  )
  const { inspect, inspectFile } = await import('../inspect/file.js')
  const { bundledFile } = await import('../model/bundled-model.js')
  const bundled = bundledFile(name)
  if (bundled !== undefined) return inspect(bundled)
  await refuseUnknownPreset(name)
  if (!isOnHub(name) && !isFolder) return inspect(name)
  if (isOnHub(name) && (findPreset(name)?.isFile ?? parseReference(name).which !== undefined))
    return inspectFile(await (await import('../hub/pull.js')).readHubFile(name))
  return (await import('../inspect/model.js')).inspectModel(name)
}

function describeModel({ files, problems, image, memory }: ModelInspection): string {
  const lines = files.map((file) => `${describe(file)}\n`)
  if (problems.length > 0)
    lines.push('this model cannot be loaded:', ...problems.map((problem) => `- ${printable(problem)}`))
  if (!image) return lines.join('\n').trimEnd()
  const { width, height, steps, seconds, memory: needed } = image
  const fits = needed.total <= memory ? 'fits' : 'does not fit: take a smaller quantisation, or a smaller image'
  const time = seconds ? `, about ${formatSeconds(seconds.total)} here` : ''
  const room = `${formatBytes(needed.total)} (${formatBytes(memory)} in this machine: ${fits})`
  return [
    ...lines,
    `this model can be loaded. An image of ${width} x ${height} in ${steps} steps takes ${room}${time}`,
  ].join('\n')
}

function fits(weights: number): string {
  const memory = `${formatBytes(weights)} of weights in ${formatBytes(totalMemory())} of memory`
  return weights < totalMemory() ? memory : `${memory} do not fit: take a smaller quantisation`
}

function describe(file: Inspection): string {
  const {
    path,
    format,
    size,
    role,
    architecture,
    parameters,
    tensors,
    types,
    config,
    metadata,
    tokenizer,
    needs,
    problems,
    weights,
    step,
  } = file
  const bytes = Object.values(types).reduce((sum, use) => sum + use.bytes, 0)
  const typeRows = Object.entries(types)
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([type, use]) => {
      const percent = (100 * use.bytes) / Math.max(bytes, 1)
      return [type, `${use.count} tensors`, formatBytes(use.bytes), `${percent.toFixed(1)} %`]
    })
  const entries = Object.entries(metadata)
  const shown = entries.slice(0, METADATA_LINES).map(([key, value]) => printable(`${key} = ${value}`))
  if (entries.length > shown.length) shown.push(`and ${entries.length - shown.length} more; --json shows them all`)
  const sections: [string, string[]][] = [
    ['role', [role]],
    ['architecture', [printable(architecture)]],
    ['parameters', [`${formatCount(parameters)} in ${tensors} tensors`]],
    ['size', [`${formatBytes(size)}, ${format}`]],
    ['types', typeRows.length > 0 ? table(typeRows, [1, 2, 3]).split('\n') : []],
    ['config', Object.entries(config ?? {}).map(([name, value]) => `${name} = ${value}`)],
    ['tokenizer', tokenizer ? ['inside'] : []],
    ['metadata', shown],
    ['needs', problems.length === 0 ? needs : []],
    [
      'here',
      step === undefined || weights === undefined
        ? []
        : [`a step at 1024 x 1024 takes about ${formatSeconds(step)}; ${fits(weights)}`],
    ],
    ['problems', problems.length > 0 ? problems.map(printable) : ['none']],
  ]
  const lines = sections.flatMap(([name, lines]) =>
    lines.map((line, i) => `  ${(i === 0 ? name : '').padEnd(13)} ${line}`),
  )
  return [path, ...lines].join('\n')
}
