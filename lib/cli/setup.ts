import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { Argument, type Command } from 'commander'
import { FluxError } from '../errors.js'
import { choosePackage, examineMachine, SETUPS, type Setup } from '../native/gpu-package.js'
import { findPackage, ROOT } from '../native/locate.js'
import { VERSION } from '../version.js'
import { formatBytes, table } from './format.js'

interface Options {
  fromSource?: true
  cuda?: true
  dryRun?: true
}

export function setupCommand(program: Command): void {
  program
    .command('setup')
    .description('install the binaries that fit this machine, for its GPU as well, or compile them')
    .addArgument(new Argument('[what]', 'instead of what fits best').choices(SETUPS))
    .option('--dry-run', 'only print what would be done')
    .option('--from-source', 'compile here; needs CMake, git and a C++ compiler')
    .option('--cuda', 'with --from-source: also for an NVIDIA GPU; needs its CUDA toolkit')
    .addHelpText(
      'after',
      `
npm installs the package of this platform and that of Vulkan along with ggflux. CUDA is larger, so it is installed by this command.
The command to install it is printed before it is run.

Examples:
  ggflux setup --dry-run
  ggflux setup
  ggflux setup cuda
  ggflux setup --from-source`,
    )
    .action(setup)
}

function setup(what: Setup | undefined, { fromSource, cuda, dryRun }: Options): void {
  if (cuda && !fromSource)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      '--cuda needs --from-source, which compiles; for the package with CUDA run: ggflux setup cuda',
    )
  if (fromSource && what)
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `--from-source compiles for the CPU, and with --cuda for CUDA; leave out '${what}', or --from-source`,
    )
  if (fromSource) compile(cuda, dryRun)
  else install(what, dryRun)
}

function compile(cuda: true | undefined, dryRun: true | undefined): void {
  const args = [path.join(ROOT, 'scripts', 'build.mjs'), ...(cuda ? ['--cuda'] : [])]
  console.log(`node ${args.join(' ')}`)
  if (dryRun) return
  if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status !== 0)
    throw new FluxError(
      'FLUX_UNSUPPORTED',
      'ggflux could not be compiled here; the reason and a remedy are printed above',
    )
  console.log(
    `compiled into ${path.join(ROOT, 'build', 'Release')}; ggflux uses it from now on, until it is installed again`,
  )
}

function install(what: Setup | undefined, dryRun: true | undefined): void {
  const machine = examineMachine()
  console.log(
    table([
      ['platform', machine.glibc ? `${machine.platform}, glibc ${machine.glibc}` : machine.platform],
      ['NVIDIA', machine.nvidia ? `driver ${machine.nvidia}` : 'no driver answers'],
      ['Vulkan', machine.vulkan ? 'there is a loader' : 'no loader'],
      ['graphics card', machine.card ? 'there may be one' : 'none'],
    ]),
  )
  const name = choosePackage(what, machine)
  if (isInstalled(name)) return console.log(`${name} ${VERSION} is installed already`)

  const { folder, global } = findProject(name)
  const args = ['install', ...(global ? ['--global'] : ['--save-optional', '--save-exact']), `${name}@${VERSION}`]
  // npm would note an optional package that it does not find as another one, in package.json
  const bytes = unpackedSize(name)
  console.log(`npm ${args.join(' ')}    (${bytes ? `${formatBytes(bytes)} unpacked, ` : ''}in ${folder})`)
  if (dryRun) return
  if (!bytes)
    throw new FluxError(
      'FLUX_DOWNLOAD',
      `npm does not find ${name}@${VERSION}; check the network and the registry: npm view ${name}@${VERSION}`,
    )
  // npm says nothing of an optional package that does not exist
  if (npm(args, folder, 'inherit').status !== 0 || !existsSync(path.join(folder, 'node_modules', name, 'package.json')))
    throw new FluxError(
      'FLUX_DOWNLOAD',
      `npm did not install ${name}@${VERSION} in ${folder}; the reason is printed above, if npm gave one`,
    )
  if (name.endsWith('-cuda'))
    console.log(
      "It also needs CUDA's libraries libcudart.so.13 and libcublas.so.13 (NVIDIA's packages cuda-cudart-13-0 and libcublas-13-0).",
    )
  console.log('ggflux devices lists what can compute now.')
}

function isInstalled(name: string): boolean {
  try {
    return findPackage(name) !== undefined
  } catch {
    return false // in another version, which is replaced
  }
}

/** The project whose node_modules contains this package, or npm's folder of global packages. */
function findProject(name: string): { folder: string; global: boolean } {
  const manual = (how: string) => new FluxError('FLUX_UNSUPPORTED', how)
  const [, project] = /^(.+?)[\\/]node_modules[\\/]/.exec(ROOT) ?? []
  if (!project) {
    const [, backend = ''] = /-(cuda|vulkan)$/.exec(name) ?? []
    const command = { cuda: 'npm run build:cuda', vulkan: 'node scripts/gpu-module.mjs vulkan' }[backend]
    throw manual(`this is a clone, not an installed package; run there: ${command ?? 'npm run build:native'}`)
  }
  if (/[\\/]_npx[\\/]/.test(project))
    throw manual('this ggflux is a temporary one of npx; install it into your project first: npm install ggflux')
  const others = [
    ['pnpm', 'pnpm-lock.yaml', 'add --save-optional --save-exact'],
    ['yarn', 'yarn.lock', 'add --optional --exact'],
    ['bun', 'bun.lock', 'add --optional --exact'],
  ] as const
  const manager = others.find(([, lock]) => existsSync(path.join(project, lock)))
  if (manager)
    throw manual(`${project} is managed by ${manager[0]}; run there: ${manager[0]} ${manager[2]} ${name}@${VERSION}`)
  return { folder: project, global: !existsSync(path.join(project, 'package.json')) }
}

/** In bytes; 0 if npm does not find the package. */
function unpackedSize(name: string): number {
  const wait = ['--fetch-retries=0', '--fetch-timeout=10000']
  const { stdout, error } = npm(['view', `${name}@${VERSION}`, 'dist.unpackedSize', '--json', ...wait], ROOT, 'pipe')
  if (error) throw new FluxError('FLUX_NOT_FOUND', `npm cannot be started (${error.message}); it is a part of Node.js`)
  return Number.parseInt(stdout, 10) || 0
}

/** Runs the npm that runs this program, where there is one. */
function npm(args: string[], cwd: string, stdio: 'inherit' | 'pipe') {
  const script = process.env.npm_execpath
  const options = { cwd, stdio, encoding: 'utf8' } as const
  if (script?.endsWith('npm-cli.js') || script?.endsWith('npx-cli.js'))
    return spawnSync(process.execPath, [script.replace('npx-cli.js', 'npm-cli.js'), ...args], options)
  // npm.cmd of Windows is run by a shell
  return process.platform === 'win32'
    ? spawnSync(['npm', ...args].join(' '), { ...options, shell: true })
    : spawnSync('npm', args, options)
}
