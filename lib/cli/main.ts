#!/usr/bin/env node
import { Command } from 'commander'
import { VERSION } from '../version.js'
import { benchCommand } from './bench.js'
import { cacheCommands } from './cache.js'
import { convertCommand } from './convert.js'
import { devicesCommand } from './devices.js'
import { reportFailure } from './failure.js'
import { generateCommand } from './generate.js'
import { inspectCommand } from './inspect.js'
import { survivePipes } from './output.js'
import { parametersCommand } from './parameters.js'
import { pullCommand } from './pull.js'
import { rpcServerCommand } from './rpc-server.js'
import { synthCommand } from './synth.js'

const program = new Command('ggflux')
  .description(
    'FLUX.1 on this machine: images from text and images, with quantised GGUF weights, without Python or a server.',
  )
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

GGFLUX_DEBUG=1 adds stack traces to errors.`,
  )

generateCommand(program)
benchCommand(program)
cacheCommands(program)
convertCommand(program)
devicesCommand(program)
inspectCommand(program)
parametersCommand(program)
pullCommand(program)
rpcServerCommand(program)
synthCommand(program)

survivePipes()

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = reportFailure(error)
}
