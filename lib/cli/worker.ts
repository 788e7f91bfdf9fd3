import type { Command } from 'commander'
import { FluxError } from '../errors.js'
import type { JobReport } from '../queue/redis/job-report.js'
import { addText, parseKeepAlive, parseNumber } from './arguments.js'
import { printWarning } from './failure.js'
import { interruptible } from './interrupt.js'
import { addHostOptions, given, MACHINE_OPTIONS, resolveModel, type MachineOptions } from './model-options.js'

interface Options extends MachineOptions {
  redis: string
  prefix?: string
  results: string
  models?: string
  loras?: string
  model?: string[]
  keepAlive: number
  patience: number
  lease: number
}

export function workerCommand(program: Command): void {
  const command = program
    .command('worker')
    .description('carry out the image jobs that servers (ggflux serve --redis) put into a queue in Redis')
    .requiredOption(
      '--redis <url>',
      'where the queue is: redis://host:port, or redis://name:password@host:port/database',
    )
    .requiredOption('--results <folder>', 'where images go; the same folder for all servers and workers')
    .option('--prefix <name>', 'what keys in Redis begin with, for several queues in one Redis (default: ggflux)')
    .option('--models <folder>', "folder of models, with ComfyUI's subfolders or one subfolder for each model")
    .option('--loras <folder>', 'folder of LoRAs (default: loras in the folder of models)')
    .option(
      '--model <name>',
      'a further model, by the name that clients use: a preset, or name=folder; again for more',
      addText,
    )
    .option(
      '--keep-alive <seconds>',
      'how long a model stays in memory after its last image; or forever',
      parseKeepAlive,
      300,
    )
    .option('--patience <seconds>', 'how long a running job may take when the worker is stopped', parseNumber, 60)
    .option('--lease <seconds>', 'after how long without a sign of life a worker counts as dead', parseNumber, 6)
  addHostOptions(command)
    .addHelpText(
      'after',
      `
A worker takes one job after another, first those of a model that it has in memory. Models in the hub's cache are offered as well.
When it is stopped, it finishes its job, or another worker begins it anew. When it dies, another one takes its job over.
Each job is one line of JSON on stdout, without its prompt.

Examples:
  ggflux worker --redis redis://localhost:6379 --results /srv/images
  ggflux worker --redis redis://queue:6379 --results /mnt/images --models /srv/models --keep-alive forever
  ggflux worker --redis redis://queue:6379 --results /mnt/images --model flux.1-schnell --backend cuda`,
    )
    .action(work)
}

async function work(options: Options): Promise<void> {
  const { FolderStore } = await import('../queue/folder-store.js')
  const { ModelCatalogue } = await import('../queue/model-catalogue.js')
  const { ModelHost } = await import('../queue/model-host.js')
  const { RedisWorker } = await import('../queue/redis-worker.js')
  const { badOption } = await import('../options/checks.js')
  const { models: folder, loras, model, keepAlive, patience, lease, results, redis, prefix } = options
  if (!(lease >= 1)) throw badOption('--lease', lease, 'at least 1 second')
  if (!(patience >= 0)) throw badOption('--patience', patience, 'seconds, or 0')
  const models: Record<string, Awaited<ReturnType<typeof resolveModel>>> = {}
  for (const text of model ?? []) {
    const [, name = text, source = text] = /^([^=]+)=(.+)$/.exec(text) ?? []
    models[name] = await resolveModel({ model: source })
  }
  const catalogue = new ModelCatalogue({ models, ...(folder ? { folder } : {}), ...(loras ? { loras } : {}) })
  const found = await catalogue.models()
  for (const problem of await catalogue.problems()) printWarning(problem)
  for (const name of Object.keys(models))
    if (!found.has(name))
      throw new FluxError(
        'FLUX_NOT_FOUND',
        `the model '${name}' cannot be loaded: ggflux inspect with its folder says why`,
      )
  const host = new ModelHost(catalogue, { keepAlive: keepAlive * 1000, load: given(options, MACHINE_OPTIONS) })
  const store = new FolderStore(results)
  await store.check()
  await interruptible(async (signal) => {
    const onError = (error: unknown, id?: string) =>
      printWarning(
        `${id === undefined ? '' : `job ${id}: `}${process.env.GGFLUX_DEBUG && error instanceof Error ? error.stack : error}`,
      )
    const worker = await RedisWorker.connect(host, {
      url: redis,
      ...(prefix ? { prefix } : {}),
      store,
      lease: lease * 1000,
      onJob,
      onError,
    })
    const { length } = await catalogue.names('lora')
    process.stderr.write(
      `offering ${[...found.keys()].join(', ')} and ${length} LoRAs; Ctrl-C ends it after the running job\n`,
    )
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    await worker.close(patience * 1000)
  })
  store.close()
}

function onJob({ waited, took, ...report }: JobReport): void {
  const line = { time: new Date().toISOString(), ...report, waitedSeconds: waited / 1000, seconds: took / 1000 }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
