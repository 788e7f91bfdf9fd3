import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheFolder } from '../../lib/cache-folder.js'
import { synthesizeTinyModel, type TinyModelPaths } from '../../lib/models/tiny-model.js'
import { nativeQuantize } from '../../lib/native.js'
import type { GenerateOptions } from '../../lib/generate-options.js'
import { FluxPipeline, type GenerateEvent, type ImageEvent, type LoadOptions } from '../../lib/pipeline.js'
import { onTestBackend } from './backend.js'

process.env.GGFLUX_CACHE ??= fileURLToPath(new URL('../../node_modules/.cache/ggflux/', import.meta.url))

/** ggml's threads wait for each other without sleeping, so on a busy machine one thread is the fastest and the steadiest. */
export const ONE_THREAD = { ...onTestBackend, threads: 1 }

/** the smallest picture, in its shortest way */
export const SMALL = { prompt: 'a red fox', width: 64, height: 64, steps: 1, seed: 1, maxSequenceLength: 16, format: 'raw' } as const

export function loadTiny(options: LoadOptions = {}): Promise<FluxPipeline> {
  return FluxPipeline.load('tiny', { ...ONE_THREAD, ...options })
}

export function tinyFiles(): Promise<TinyModelPaths> {
  return synthesizeTinyModel(join(cacheFolder(), 'tiny'), nativeQuantize)
}

export async function collect(events: AsyncIterable<GenerateEvent>): Promise<GenerateEvent[]> {
  const all: GenerateEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

export async function streamed(pipe: FluxPipeline, options: GenerateOptions): Promise<ImageEvent> {
  return (await collect(pipe.stream(options))).at(-1) as ImageEvent
}
