import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'

// The declarations as a strict TypeScript project gets them: the packed package with its dependencies, without the optional ones.
const checkout = fileURLToPath(new URL('../../', import.meta.url))
const modules = path.join(checkout, 'node_modules')
const project = mkdtempSync(path.join(os.tmpdir(), 'ggflux-types-'))

// The same program for both module systems: the extension decides. It names what each entry point exports and frees it with `await using`.
const programs = ['main.mts', 'main.cts']
const program = `
import { FluxError, FluxPipeline, encodeImage, type GenerateEvent, type ImageFormat } from 'ggflux'
import { FluxTransformer } from 'ggflux/nn'

export async function draw(prompt: string, format: ImageFormat): Promise<Buffer> {
  await using pipeline = await FluxPipeline.load('tiny')
  for await (const event of pipeline.stream({ prompt, format })) {
    const known: GenerateEvent = event
    if (known.type === 'image') return known.image
  }
  throw new FluxError('FLUX_CLOSED', prompt)
}

export async function blank(): Promise<Buffer> {
  await using transformer = await FluxTransformer.load('transformer.gguf')
  // @ts-expect-error: a format that does not exist, so that types which became \`any\` are noticed
  return encodeImage(new Uint8Array(transformer.config.inChannels), 1, 1, { format: 'bmp' })
}
`

const serverPrograms = ['server.mts', 'server.cts']
const serverProgram = `
import { createServer, FolderStore, RedisQueue, type ImageStore, type JobStatus, type ServerOptions } from 'ggflux/server'

export async function serve(options: ServerOptions, store: ImageStore = new FolderStore('results')): Promise<JobStatus> {
  const server = await createServer({ ...options, queue: await RedisQueue.connect({ url: 'redis://localhost', store }) })
  server.app.get('/hello', async (request) => request.ip)
  const job = await server.queue.add({ model: 'tiny', options: { prompt: await server.listen() } }, { client: 'me' })
  await store.delete(job.id)
  // @ts-expect-error: an option that does not exist
  await createServer({ prot: 1 })
  return job.status()
}
`

// The part of Node's types that the declarations use, without `Symbol.asyncDispose`, as older versions of them are.
const oldNode = `
declare class Buffer extends Uint8Array<ArrayBuffer> {}
declare namespace NodeJS { interface ProcessEnv { [name: string]: string | undefined } }
`

function compile(options: object, files = programs): string {
  const config = path.join(project, 'tsconfig.json')
  const compilerOptions = { module: 'nodenext', strict: true, skipLibCheck: false, noEmit: true, ...options }
  writeFileSync(config, JSON.stringify({ compilerOptions, files }))
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [path.join(modules, 'typescript', 'bin', 'tsc'), '-p', config],
    { encoding: 'utf8' },
  )
  return stdout + stderr
}

beforeAll(() => {
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', project]
  const [{ filename }] = JSON.parse(
    execFileSync('npm', pack, { cwd: checkout, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  const installed = path.join(project, 'node_modules', 'ggflux')
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', path.join(project, filename), '-C', installed, '--strip-components=1'])
  const { dependencies } = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of [...Object.keys(dependencies), '@types/node']) {
    const link = path.join(project, 'node_modules', name)
    mkdirSync(path.dirname(link), { recursive: true })
    symlinkSync(path.join(modules, name), link, 'junction')
  }
  for (const name of programs) writeFileSync(path.join(project, name), program)
  for (const name of serverPrograms) writeFileSync(path.join(project, name), serverProgram)
})

afterAll(() => rmSync(project, { recursive: true, force: true }))

// Neither names the types of Node, and TypeScript 7 includes none by itself: the declarations have to name them.
test.each([
  ['the newest language and the types of browsers', { target: 'esnext' }],
  [
    'the oldest language and nothing else',
    { target: 'es2022', lib: ['es2022'], exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
  ],
])('the declarations compile in an ES module and in a CommonJS module without sharp, with %s', (_, options) => {
  expect(compile(options)).toBe('')
})

test('the declarations of ggflux/server compile, with those of fastify', () => {
  expect(compile({ target: 'es2022', lib: ['es2023'], types: ['node'] }, serverPrograms)).toBe('')
})

test('the declarations bring `Symbol.asyncDispose` where the types of Node do not', () => {
  const node = path.join(project, 'node_modules', '@types', 'node')
  rmSync(node)
  mkdirSync(node)
  writeFileSync(
    path.join(node, 'package.json'),
    '{ "name": "@types/node", "version": "18.0.0", "types": "index.d.ts" }',
  )
  writeFileSync(path.join(node, 'index.d.ts'), oldNode)
  expect(compile({ target: 'es2022', lib: ['es2022', 'dom'] })).toBe('')
})
