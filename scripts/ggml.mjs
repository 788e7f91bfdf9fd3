// Provides the source of ggml in `ggml/`: once per clone, checked against a pinned hash, never again afterwards.
//
// ggml is not on npm by itself. node-llama-cpp ships the complete llama.cpp release as a git bundle inside its tarball; `npm pack` brings
// exactly that file, through the user's own npm configuration and npm's own cache.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const ggmlSource = {
  version: '0.25.1',
  package: 'node-llama-cpp@3.22.1',
  integrity: 'sha512-bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==',
}

// Backends of ggml that no build of ggflux uses; they are half of the folder.
const unused = [
  'cann',
  'et',
  'hexagon',
  'hip',
  'musa',
  'opencl',
  'openvino',
  'sycl',
  'virtgpu',
  'webgpu',
  'zdnn',
  'zendnn',
]

/** Makes sure that `<root>/ggml` holds the pinned release; throws an Error that says what to do when it cannot. */
export function ensureGgml(root, source = ggmlSource) {
  const target = path.join(root, 'ggml')
  const stamp = path.join(target, '.ggflux-source')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === source.integrity) return target

  console.log(`ggflux: fetching the source of ggml ${source.version} (36 MB, once)`)
  const work = path.join(root, 'build', 'ggml-source')
  rmSync(work, { recursive: true, force: true }) // of a run that was killed
  mkdirSync(work, { recursive: true })
  // Ctrl-C ends the program that runs below as well, whose failure then leads through `finally`
  const stay = () => {}
  process.on('SIGINT', stay)
  try {
    const tarball = fetchTarball(
      work,
      source,
      'the source of ggml',
      'copy the folder ggml/ from another clone of ggflux; then run `npm run build:native` again',
    )
    run('cmake', ['-E', 'tar', 'xzf', tarball, '--', 'package/llama/gitRelease.bundle'], work)
    run('git', ['clone', '--quiet', '--no-checkout', 'package/llama/gitRelease.bundle', 'llama'], work)
    run('git', ['-C', 'llama', 'checkout', '--quiet', 'HEAD', '--', 'ggml', 'LICENSE'], work)
    const ggml = path.join(work, 'llama', 'ggml')
    for (const backend of unused) rmSync(path.join(ggml, 'src', `ggml-${backend}`), { recursive: true, force: true })
    renameSync(path.join(work, 'llama', 'LICENSE'), path.join(ggml, 'LICENSE'))
    writeFileSync(path.join(ggml, '.ggflux-source'), source.integrity)
    rmSync(target, { recursive: true, force: true })
    renameSync(ggml, target)
    return target
  } finally {
    rmSync(work, { recursive: true, force: true })
    process.off('SIGINT', stay)
  }
}

/**
 * Brings the tarball of a package into the folder `work` with `npm pack`, through the user's own npm configuration and
 * cache, and compares it with its pinned hash. Returns its path.
 *
 * @param source `package` with its exact version, and the tarball's `integrity` as npm writes it
 * @param what for messages
 * @param otherwise what helps without a network
 */
export function fetchTarball(work, source, what, otherwise) {
  // --prefer-offline makes a filled npm cache enough
  const args = ['pack', source.package, '--prefer-offline', '--ignore-scripts', '--loglevel=error', '--fetch-retries=1']
  const result = npm(args, work)
  const name = readdirSync(work).find((name) => name.endsWith('.tgz'))
  if (result.status !== 0 || !name) {
    throw new Error(
      `ggflux could not fetch ${what} (npm pack ${source.package} failed).\n${(result.stderr ?? String(result.error)).trim()}\n` +
        'What to do: check the network or the proxy (npm config get proxy), or run `npm cache add ' +
        source.package +
        `\` while online, or ${otherwise}.`,
    )
  }
  const tarball = path.join(work, name)
  const found = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`
  if (found !== source.integrity) {
    throw new Error(
      `ggflux refuses ${what}: the tarball of ${source.package} has the hash\n  ${found}\nand not the pinned\n  ${source.integrity}\n` +
        'What to do: a proxy or mirror may have changed the file; run `npm cache clean --force` and try again, with another npm registry if there is one.',
    )
  }
  return tarball
}

/** Runs npm: the one that runs this script, where there is one. */
export function npm(args, cwd) {
  const program = /npm-cli\.js$/.test(process.env.npm_execpath) ? [process.execPath, process.env.npm_execpath] : ['npm']
  return spawnSync(program[0], [...program.slice(1), ...args], {
    cwd,
    encoding: 'utf8',
    shell: program.length === 1 && process.platform === 'win32',
  })
}

function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (result.error?.code === 'ENOENT')
    throw new Error(
      `ggflux needs the program \`${command}\` to unpack the source of ggml. What to do: install ${command} and try again.`,
    )
  if (result.status !== 0)
    throw new Error(`ggflux could not unpack the source of ggml: ${command} ${args.join(' ')}\n${result.stderr}`)
}

/** Runs `main` if the script at `url` is the program, and not imported by one. An error is printed as a sentence. */
export function runAsProgram(url, main) {
  if (!process.argv[1] || realpathSync(process.argv[1]) !== fileURLToPath(url)) return
  try {
    main()
  } catch (error) {
    console.error(`\n${error.message}\n`)
    process.exit(1)
  }
}
