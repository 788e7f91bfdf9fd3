import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { ModelFiles } from '../../lib/families/registry.js'
import { ImagePipeline, type GenerateEvent } from '../../lib/pipeline/pipeline.js'
import { tinyModelFiles } from '../../lib/model/bundled-model.js'
import { collect } from '../support/async.js'
import { temporaryFolder } from '../support/temporary.js'
import { loadTiny, SMALL } from '../support/tiny.js'

// A pipeline in a child process: the same images, and a crash there is an error here.

const LONG = { ...SMALL, width: 512, height: 512, steps: 200 }

/** The processes that compute for this one, or for `parent`. */
function enginesOf(parent = process.pid): number[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=,args=', '--ppid', String(parent)], { encoding: 'utf8' })
  const lines = stdout.split('\n').filter((line) => line.includes('engine-process'))
  return lines.map((line) => Number.parseInt(line, 10))
}

async function firstStep(pipe: ImagePipeline, options: object = LONG): Promise<ReturnType<ImagePipeline['submit']>> {
  const job = pipe.submit({ ...LONG, ...options })
  for await (const event of job.events()) if (event.type === 'step') break
  return job
}

describe('beside a pipeline in this process', () => {
  test('images, events and estimates are the same', async () => {
    await using here = await loadTiny({ backend: 'cpu' })
    await using there = await loadTiny({ backend: 'cpu', isolate: true })
    const options = { ...SMALL, steps: 3, count: 2, preview: { every: 2 } }
    const plain = (events: GenerateEvent[]) => events.map((event) => ({ ...event, ms: 0, timings: 0 }))
    const expected = plain(await collect(here.stream(options)))
    const events = plain(await collect(there.stream(options)))
    expect(events.map(({ type }) => type)).toEqual(expected.map(({ type }) => type))
    expect(events).toEqual(expected)
    const { operations, memory } = await there.estimate({ width: 256, height: 256 })
    expect({ operations, memory }).toMatchObject({
      operations: (await here.estimate({ width: 256, height: 256 })).operations,
    })
    expect(there.config).toEqual(here.config)
    expect(await there.device()).toMatchObject({ name: 'CPU', kind: 'cpu' })
    expect((await there.profile(() => there.generate(SMALL))).length).toBeGreaterThan(3)
  })

  test('errors keep their codes, and wrong options are refused at once', async () => {
    await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
    expect(() => pipe.submit({ ...SMALL, width: 100 })).toThrow(/^width is 100/)
    const lora = { ...SMALL, loras: [{ path: 'nowhere.safetensors' }] }
    await expect(pipe.generate(lora)).rejects.toMatchObject({ name: 'FluxError', code: 'FLUX_NOT_FOUND' })
    await expect(loadTiny({ backend: 'no such device', isolate: true })).rejects.toMatchObject({ code: 'FLUX_DEVICE' })
    await expect(loadTiny({ isolate: 'yes' as never })).rejects.toMatchObject({ code: 'FLUX_BAD_OPTION' })
  })

  test("an aborted call rejects with the signal's reason, and the next one is right", async () => {
    await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const red = await pipe.generate(SMALL)
    const controller = new AbortController()
    setTimeout(() => controller.abort(new Error('enough')), 100)
    await expect(pipe.generate({ ...LONG, signal: controller.signal })).rejects.toThrow('enough')
    expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
    expect(enginesOf()).toHaveLength(1)
  })

  test('an error in onWarning ends the call, and no work goes on', async () => {
    await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const fails = () => {
      throw new Error('mine')
    }
    // no step is between start and end
    const warned = { ...LONG, steps: 1, negativePrompt: 'x', trueCfg: { scale: 2, start: 0.4, end: 0.5 } }
    await expect(pipe.generate({ ...warned, onWarning: fails })).rejects.toThrow('mine')
    expect((await pipe.generate(SMALL)).length).toBe(64 * 64 * 3)
  })

  test('relative paths are those of this process, now', async () => {
    const folder = temporaryFolderHere
    await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const before = process.cwd()
    mkdirSync(join(folder, 'inner'))
    writeFileSync(join(folder, 'inner', 'photo.png'), await pipe.generate({ ...SMALL, format: 'png' }))
    process.chdir(join(folder, 'inner'))
    try {
      expect((await pipe.generate({ ...SMALL, image: 'photo.png' })).length).toBe(64 * 64 * 3)
    } finally {
      process.chdir(before)
    }
  })
})

const temporaryFolderHere = temporaryFolder()

describe('a crash', () => {
  test.each(['SIGSEGV', 'SIGABRT', 'SIGKILL'] as const)(
    'by %s fails the image, and the next one is right',
    async (signal) => {
      await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
      const red = await pipe.generate(SMALL)
      const job = await firstStep(pipe)
      const next = pipe.generate(SMALL)
      const [engine] = enginesOf()
      process.kill(engine!, signal)
      await expect(job.result).rejects.toMatchObject({
        name: 'FluxError',
        code: 'FLUX_CRASHED',
        message: expect.stringContaining(signal) as string,
      })
      expect(Buffer.compare(await next, red)).toBe(0)
      expect(enginesOf()).not.toContain(engine)
    },
  )

  test('between two images is noticed by none', async () => {
    await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const red = await pipe.generate(SMALL)
    process.kill(enginesOf()[0]!, 'SIGKILL')
    while (enginesOf().length > 0) await sleep(20)
    expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
  })

  test("because a model's file is cut short while it is read", async () => {
    const bundled = tinyModelFiles()
    const folder = join(temporaryFolderHere, 'model')
    mkdirSync(folder)
    const copied = (path: string) => {
      copyFileSync(path, join(folder, basename(path)))
      return join(folder, basename(path))
    }
    const files: ModelFiles = { ...bundled, transformer: copied(bundled.transformer) }
    await using pipe = await ImagePipeline.load(files, { backend: 'cpu', isolate: true })
    const red = await pipe.generate(SMALL)
    const codes: string[] = []
    // the cut may fall between two evaluations, where it is found without a crash
    for (let i = 0; i < 5 && !codes.includes('FLUX_CRASHED'); i++) {
      const job = await firstStep(pipe)
      await sleep(20 + 37 * i)
      truncateSync(files.transformer, 5000)
      const error = await job.result.catch((error: unknown) => error as { code: string; message: string })
      codes.push((error as { code: string }).code)
      if (codes.includes('FLUX_CRASHED')) expect(error).toHaveProperty('message', expect.stringContaining('SIGBUS'))
      copied(bundled.transformer)
      // found without a crash, so the process still has the old file: another one loads the new one
      if (codes.at(-1) === 'FLUX_BAD_FILE') process.kill(enginesOf()[0]!, 'SIGKILL')
    }
    expect(codes).toContain('FLUX_CRASHED')
    expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
  })
})

test('a process that hangs is ended when its call is cancelled, and the next image is right', {
  timeout: 60_000,
}, async () => {
  await using pipe = await loadTiny({ backend: 'cpu', isolate: true })
  const red = await pipe.generate(SMALL)
  const job = await firstStep(pipe)
  const [engine] = enginesOf()
  process.kill(engine!, 'SIGSTOP')
  job.cancel(new Error('enough'))
  await expect(job.result).rejects.toThrow('enough')
  expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
  expect(enginesOf()).not.toContain(engine)
})

describe('the end', () => {
  const child = fileURLToPath(new URL('./children/isolated.mjs', import.meta.url))
  const start = (how: string) => spawn(process.execPath, [child, how], { stdio: ['ignore', 'pipe', 'inherit'] })

  test('close() ends the other process, and fails what runs with FLUX_CLOSED', async () => {
    const pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const job = await firstStep(pipe)
    await pipe.close()
    await expect(job.result).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
    expect(enginesOf()).toEqual([])
    await expect(pipe.generate(SMALL)).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
  })

  test('close() does not wait for a process that hangs', async () => {
    const pipe = await loadTiny({ backend: 'cpu', isolate: true })
    const job = await firstStep(pipe)
    process.kill(enginesOf()[0]!, 'SIGSTOP')
    const began = performance.now()
    await pipe.close()
    expect(performance.now() - began).toBeLessThan(5000)
    await expect(job.result).rejects.toMatchObject({ code: 'FLUX_CLOSED' })
  })

  test('twenty pipelines at once: no warning of a leak', async () => {
    const warnings: string[] = []
    const warned = (warning: Error) => warnings.push(warning.message)
    process.on('warning', warned)
    const pipes = await Promise.all(
      Array.from({ length: 20 }, () => loadTiny({ backend: 'cpu', threads: 1, isolate: true })),
    )
    await Promise.all(pipes.map((pipe) => pipe.close()))
    process.off('warning', warned)
    expect(warnings).toEqual([])
    expect(enginesOf()).toEqual([])
  })

  test('a program that does not close the pipeline ends by itself', async () => {
    const program = start('ends')
    const [code] = (await once(program, 'exit')) as [number]
    expect(code).toBe(0)
  })

  test.each([
    ['exits', undefined, 7],
    ['is killed', 'SIGKILL', null],
  ] as const)('a program that %s in the middle leaves no process behind', async (how, signal, status) => {
    const program = start(how)
    await once(program.stdout, 'data')
    const engines = enginesOf(program.pid)
    if (signal) {
      expect(engines).toHaveLength(1)
      program.kill(signal)
    }
    const [code] = program.exitCode === null ? ((await once(program, 'exit')) as [number | null]) : [program.exitCode]
    expect(code).toBe(status)
    const runs = () => engines.some((pid) => spawnSync('ps', ['-p', String(pid)]).status === 0)
    for (let i = 0; i < 100 && runs(); i++) await sleep(50)
    expect(runs()).toBe(false)
  })
})
