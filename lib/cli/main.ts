#!/usr/bin/env node
import { Command } from 'commander'
import { VERSION } from '../version.js'
import { reportFailure } from './failure.js'
import { survivePipes } from './output.js'

/** The modules of the commands. A call loads only that of its own command; the help needs all. */
const COMMANDS: Record<string, () => Promise<(program: Command) => void>> = {
  generate: async () => (await import('./generate.js')).generateCommand,
  bench: async () => (await import('./bench.js')).benchCommand,
  list: async () => (await import('./cache.js')).cacheCommands,
  convert: async () => (await import('./convert.js')).convertCommand,
  devices: async () => (await import('./devices.js')).devicesCommand,
  doctor: async () => (await import('./doctor.js')).doctorCommand,
  inspect: async () => (await import('./inspect.js')).inspectCommand,
  parameters: async () => (await import('./parameters.js')).parametersCommand,
  pull: async () => (await import('./pull.js')).pullCommand,
  'rpc-server': async () => (await import('./rpc-server.js')).rpcServerCommand,
  serve: async () => (await import('./serve.js')).serveCommand,
  setup: async () => (await import('./setup.js')).setupCommand,
  synth: async () => (await import('./synth.js')).synthCommand,
  upscale: async () => (await import('./upscale.js')).upscaleCommand,
  worker: async () => (await import('./worker.js')).workerCommand,
}

const program = new Command('ggflux')
  .description('FLUX.1 on this machine: images from text and images, with quantised GGUF weights, without Python.')
  .version(VERSION, '-v, --version', 'print the version')
  .helpOption('-h, --help', 'print help')
  .helpCommand('help [command]', 'print help on a command')
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'ggflux: ')) })
  .addHelpText(
    'after',
    `
With the tiny model in this package, which draws simple shapes:
  ggflux generate "a small red circle left of a large blue square on a white background"
With a model from the hub, which is downloaded once:
  ggflux generate "a red fox in the snow" -o fox.png --model flux.1-schnell
With published files:
  ggflux generate "a red fox in the snow" -o fox.png --transformer flux1-schnell-Q4_0.gguf \\
    --t5 t5-v1_1-xxl-encoder-Q8_0.gguf --clip clip_l.safetensors --vae ae.safetensors
With these files in one folder:
  ggflux generate "a red fox in the snow" -o fox.png --model flux-schnell
A web page, and an API for other programs:
  ggflux serve

GGFLUX_DEBUG=1 adds stack traces to errors.`,
  )

const [name = ''] = process.argv.slice(2)
const own = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]!] : Object.values(COMMANDS)
if (!['-v', '--version'].includes(name)) for (const load of own) (await load())(program)

survivePipes()

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = reportFailure(error)
}
