import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { GenerateOptions } from '../../lib/pipeline/generate-options.js'
import type { FluxPipeline, GenerateEvent, Stage } from '../../lib/pipeline/pipeline.js'
import { collect, isSettled } from '../support/async.js'
import { stopwatch } from '../support/clock.js'
import { patience } from '../support/patience.js'
import { loadTiny, SMALL } from '../support/tiny.js'

const LARGER = { ...SMALL, width: 256, height: 256, steps: 2, maxSequenceLength: 512 }
const closed = expect.objectContaining({ name: 'FluxError', code: 'FLUX_CLOSED' })

async function until(events: AsyncGenerator<GenerateEvent>, stage: Stage): Promise<void> {
  for (;;) {
    const { value } = await events.next()
    if (value?.type === 'stage' && value.stage === stage) return
  }
}

describe('one pipeline', () => {
  let pipe: FluxPipeline
  let red: Buffer
  let blue: Buffer
  beforeAll(async () => {
    pipe = await loadTiny()
    red = await pipe.generate(SMALL)
    blue = await pipe.generate({ ...SMALL, prompt: 'blue', seed: 2 })
    expect(Buffer.compare(red, blue)).not.toBe(0)
  })
  afterAll(() => pipe?.close())

  test('two pictures at once: both are right, one after the other', async () => {
    const order: string[] = []
    const run = async (name: string, options: GenerateOptions) => {
      let image: Buffer | undefined
      for await (const event of pipe.stream(options)) {
        order.push(`${name} ${event.type}`)
        if (event.type === 'image') image = event.image
      }
      return image!
    }
    const pictures = [run('red', SMALL), run('blue', { ...SMALL, prompt: 'blue', seed: 2 })] as const
    const [first, second] = await Promise.all(pictures)
    expect(Buffer.compare(first, red)).toBe(0)
    expect(Buffer.compare(second, blue)).toBe(0)
    expect(order.findIndex((event) => event.startsWith('blue'))).toBe(order.indexOf('red image') + 1)
  })

  test.each([
    ['without a signal', {}],
    ['with one signal', { signal: new AbortController().signal }],
  ])('thirty calls wait their turn, without a warning: %s', async (_, given) => {
    const warnings: string[] = []
    const warned = (warning: Error) => warnings.push(warning.message)
    process.on('warning', warned)
    const pictures = await Promise.all(
      Array.from({ length: 30 }, (_, i) => pipe.generate({ ...SMALL, seed: 1 + (i % 2), ...given })),
    )
    expect(pictures.filter((picture) => Buffer.compare(picture, red) === 0)).toHaveLength(15)
    process.off('warning', warned)
    expect(warnings).toEqual([])
  })

  test('a wrong call does not stop those behind it', async () => {
    const wrong = pipe.generate({ ...SMALL, steps: 0 })
    const right = pipe.generate(SMALL)
    await expect(wrong).rejects.toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION' }))
    expect(Buffer.compare(await right, red)).toBe(0)
  })

  test.each(['stage', 'step', 'image'])('a loop left at a %s event lets the next call in', async (type) => {
    for await (const event of pipe.stream(SMALL)) if (event.type === type) break
    expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
  })

  test('a loop left by an error of its own lets the next call in', async () => {
    const loop = async () => {
      for await (const event of pipe.stream(SMALL)) if (event.type === 'step') throw new Error('mine')
    }
    await expect(loop()).rejects.toThrow('mine')
    expect(Buffer.compare(await pipe.generate(SMALL), red)).toBe(0)
  })

  test('a reader that stops reading delays nobody, and finds everything later', async () => {
    const events = pipe.stream({ ...SMALL, preview: {} })
    await until(events, 'denoise')
    expect(Buffer.compare(await pipe.generate({ ...SMALL, prompt: 'blue', seed: 2 }), blue)).toBe(0)
    const rest = await collect(events)
    expect(rest.map(({ type }) => type)).toEqual(['step', 'stage', 'image'])
    expect(rest[0]).toMatchObject({ preview: { width: 8, height: 8 } })
    expect(rest[2]).toMatchObject({ image: red })
  })

  test('a stream does not begin before it is read', async () => {
    const events = pipe.stream(SMALL)
    const job = pipe.submit(SMALL)
    expect(job.position).toBe(0)
    await events.return()
    await job.result
  })

  test('an abort between two events is the next that the reader sees, however far the picture is', async () => {
    const controller = new AbortController()
    const events = pipe.stream({ ...SMALL, signal: controller.signal })
    await events.next()
    await pipe.generate(SMALL)
    controller.abort('enough')
    await expect(events.next()).rejects.toBe('enough')
    expect(await events.next()).toEqual({ done: true, value: undefined })
  })

  test('jobs: position, progress, readers, result', async () => {
    const jobs = [
      pipe.submit(SMALL),
      pipe.submit({ ...SMALL, prompt: 'blue', seed: 2 }),
      pipe.submit({ ...SMALL, steps: 1000 }),
    ] as const
    expect(jobs.map(({ position }) => position)).toEqual([0, 1, 2])
    jobs[2].cancel()
    await expect(jobs[2].result).rejects.toMatchObject({ name: 'AbortError' })
    const readers = [collect(jobs[1].events()), collect(jobs[1].events())]
    expect(Buffer.compare((await jobs[0].result).image, red)).toBe(0)
    expect(Buffer.compare((await jobs[1].result).image, blue)).toBe(0)
    expect(await readers[0]).toEqual(await readers[1])
    expect((await readers[0])!.at(-1)).toBe(await jobs[1].result)
    expect(jobs.map(({ position, progress }) => [position, progress])).toEqual([
      [0, 1],
      [0, 1],
      [0, 0],
    ])
    expect(() => pipe.submit({ ...SMALL, steps: 0 })).toThrow(expect.objectContaining({ code: 'FLUX_BAD_OPTION' }))
  })

  test('an aborted wait: the reason at once, and the others keep their places', async () => {
    const events = pipe.stream(LARGER)
    await until(events, 'text')
    const controller = new AbortController()
    const reason = new Error('tired of waiting')
    const waiting = pipe.generate({ ...SMALL, signal: controller.signal })
    const behind = pipe.generate({ ...SMALL, prompt: 'blue', seed: 2 })
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    expect(await isSettled(behind, 20)).toBe(false)
    await collect(events)
    expect(Buffer.compare(await behind, blue)).toBe(0)
  })

  test('a signal that was aborted before', async () => {
    const reason = { any: 'value' }
    await expect(pipe.generate({ ...SMALL, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await expect(loadTiny({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

describe('abort', () => {
  // The encoders leave after each prompt, and the transformer comes at the first picture: so every stage has something to do.
  test.each<Stage>(['text', 'load', 'denoise', 'decode'])(
    'in %s: the reason within 200 ms, and the pipeline goes on',
    async (stage) => {
      await using pipe = await loadTiny({ textEncoders: 'release' })
      const controller = new AbortController()
      const reason = new Error(`stop at ${stage}`)
      const events = pipe.stream({ ...LARGER, signal: controller.signal })
      await until(events, stage)
      const next = expect(events.next()).rejects.toBe(reason)
      // the tiny model is loaded within milliseconds
      if (stage !== 'load') await sleep(2)
      const read = stopwatch()
      controller.abort(reason)
      await next
      const milliseconds = read()
      console.log(`abort in the stage ${stage}: ${milliseconds.toFixed(1)} ms`)
      expect(milliseconds).toBeLessThan(200 * patience)
      expect(await events.next()).toEqual({ done: true, value: undefined })
      expect(await pipe.generate(SMALL)).toHaveLength(64 * 64 * 3)
    },
  )

  test('at any time: the reason or the picture, nothing else', async () => {
    await using pipe = await loadTiny({ textEncoders: 'release' })
    const expected = await pipe.generate({ ...SMALL, format: 'png' })
    const outcomes = { aborted: 0, made: 0 }
    for (let i = 0; i < 40; i++) {
      const controller = new AbortController()
      const reason = new Error(`after ${4 * i} ms`)
      const picture = pipe.generate({ ...SMALL, prompt: `a red fox ${i}`, format: 'png', signal: controller.signal })
      const timer = setTimeout(() => controller.abort(reason), 4 * i)
      await picture.then(
        () => outcomes.made++,
        (error: unknown) => {
          expect(error).toBe(reason)
          outcomes.aborted++
        },
      )
      clearTimeout(timer)
    }
    expect(outcomes.aborted).toBeGreaterThan(0)
    expect(Buffer.compare(await pipe.generate({ ...SMALL, format: 'png' }), expected)).toBe(0)
  })
})

describe('close', () => {
  test('cancels the picture under way within its step, and refuses those behind it', async () => {
    const pipe = await loadTiny()
    // a step of this size takes seconds
    const job = pipe.submit({ ...SMALL, width: 1024, height: 1024 })
    const picture = expect(job.result).rejects.toThrow(closed)
    const behind = expect(pipe.generate(SMALL)).rejects.toThrow(closed)
    await until(job.events(), 'denoise')
    await sleep(50)
    const read = stopwatch()
    await pipe.close()
    const milliseconds = read()
    await Promise.all([picture, behind])
    await expect(pipe.submit(SMALL).result).rejects.toThrow(closed)
    console.log(`close during a step: ${milliseconds.toFixed(1)} ms`)
    expect(milliseconds).toBeLessThan(500 * patience)
  })

  test('does not hang on a stream that nobody reads, nor on those who wait behind it', async () => {
    const pipe = await loadTiny()
    const events = pipe.stream(SMALL)
    await until(events, 'denoise')
    const behind = expect(pipe.generate(SMALL)).rejects.toThrow(closed)
    await pipe.close()
    await behind
    await expect(collect(events)).rejects.toThrow(closed)
  })

  test.each<Stage>(['text', 'load', 'denoise', 'decode'])(
    'during a step of a stream in the stage %s: FLUX_CLOSED there',
    async (stage) => {
      const pipe = await loadTiny({ textEncoders: 'release' })
      const events = pipe.stream({ ...SMALL, steps: 2 })
      await until(events, stage)
      const rest = expect(collect(events)).rejects.toThrow(closed)
      await pipe.close()
      await rest
    },
  )

  test('twice, by a using declaration, and generate afterwards', async () => {
    const pipe = await loadTiny()
    await Promise.all([pipe.close(), pipe.close()])
    await pipe.close()
    await expect(pipe.generate(SMALL)).rejects.toThrow(closed)
    await expect(collect(pipe.stream(SMALL))).rejects.toThrow(/was closed; load it again/)
    let used: FluxPipeline
    {
      await using inner = await loadTiny()
      used = inner
    }
    await expect(used.generate(SMALL)).rejects.toThrow(closed)
  })

  test('of one pipeline leaves another alone, which gives the same pictures', async () => {
    const [one, other] = await Promise.all([loadTiny(), loadTiny()])
    const [a, b] = await Promise.all([one.generate(SMALL), other.generate(SMALL)])
    expect(Buffer.compare(a, b)).toBe(0)
    const next = other.generate(SMALL)
    await one.close()
    expect(Buffer.compare(await next, a)).toBe(0)
    await other.close()
  })
})
