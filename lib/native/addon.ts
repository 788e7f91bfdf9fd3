/**
 * The whole boundary between TypeScript and C++. Everything that crosses it is a plain value that was checked on this side; the native
 * side checks again whatever could make it crash. Failures arrive as errors whose message begins with a FLUX_ code.
 */

import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { FluxError, type FluxErrorCode } from '../errors.js'

export type Precision = 'auto' | 'f32' | 'bf16'

/** One tensor of a model file. */
export interface NativeTensor {
  /** canonical name, see the layouts in `lib/networks` */
  name: string
  /** ggml's type number */
  type: number
  /** ggml's order: the fastest dimension first; 1 to 4 of them */
  shape: number[]
  /** its bytes in the file are float8 of this kind, and are widened to `type`, BF16 or F32 */
  float8?: 'e4m3fn' | 'e5m2'
  /** where its rows lie; the pieces follow one another */
  pieces: NativePiece[]
}

/** Rows of a tensor that lie together in a file. */
export interface NativePiece {
  /** which of the `files` */
  file: number
  /** from the beginning of that file */
  offset: number
  bytes: number
  /** where in the file the F32 lies that float8 numbers are multiplied with */
  scale?: number
}

/**
 * What is added to a matrix or vector of the network, to `rows` rows from `first` on. A matrix grows by scale * M. A vector v, which is a bias or
 * belongs to a norm, grows by scale * d (difference) or scale * (d - v) (replacement), where d is `one`, a matrix of one column.
 */
export interface NativeAddition {
  /** canonical name */
  weight: string
  first: number
  rows: number
  /** M is `one` (LoRA: product, a whole matrix: difference), the elementwise product of `one` and `two` (LoHa), or their Kronecker product (LoKr) */
  kind: 'product' | 'hadamard' | 'kronecker' | 'difference' | 'replacement'
  one: NativeFactor
  two?: NativeFactor
  scale: number
  /** the upper and the lower half of M or d change places first */
  halvesSwapped: boolean
}

/** A matrix of `out` rows and `in` columns: `up` times `down`, or `down` alone. Tensors by name, shapes as torch prints them. */
export interface NativeFactor {
  in: number
  out: number
  /** [rank, in], or [out, in] where there is no `up` */
  down: string
  /** [out, rank] */
  up?: string
  rank?: number
}

/** Additions to one matrix, and the row of it that the rows at hand begin at. `tensors` are those of the additions, in `files`. */
export interface NativeMerged {
  files: string[]
  tensors: NativeTensor[]
  additions: NativeAddition[]
  first: number
}

export interface NativeDevice {
  name: string
  description: string
  kind: 'cpu' | 'gpu' | 'accelerator'
  /** bytes; 0 where the device does not tell */
  memoryTotal: number
  memoryFree: number
}

export interface NativeOptions {
  /** a device's name as `devices()` gives it, or `rpc://host:port/n` */
  device: string
  threads: number
  /** what activations may be rounded to */
  precision: Precision
  /** bytes that weights may take on a device with memory of its own; all that is free where it is left out */
  deviceMemory?: number | undefined
}

export interface NativeStatus {
  /** of loading, 0 to 1 */
  progress: number
  /** bytes of weights held in buffers of the device (repacked, uploaded or copied) */
  weights: number
  /** bytes of weights used where they lie in the file's mapping */
  mapped: number
  /** bytes of the buffers for activations */
  compute: number
  /** of the graph that was evaluated last, and the most that it has room for */
  nodes: number
  maxNodes: number
}

/** What one kind of operation cost in one evaluation. */
export interface NativeOperation {
  /** linear, attention, convolution, packing (of a kernel's operands), or what ggml calls it */
  name: string
  /** of its first source: of a linear layer its weights */
  type: string
  count: number
  ms: number
  /** multiplications and additions; 0 where they are few beside the bytes */
  operations: number
  /** of sources and results */
  bytes: number
}

/** What this machine's CPU can do at best, with the given number of threads. */
export interface NativeRoof {
  /** what linear layers multiply with here: AMX tiles, AVX-512's BF16 products, or F32 */
  products: 'bf16-tiles' | 'bf16' | 'f32'
  /** operations a second with operands in registers */
  registers: number
  /** with operands from the second cache, as in a linear layer; 0 where it is not known */
  cache: number
  /** operations a second in F32 with operands in registers: what multiplies where nothing may be rounded */
  floats: number
  /** bytes a second read from memory */
  memory: number
}

export type NativeArray = Float32Array | Int32Array

/** One network with its weights. One call at a time: `load` or `run` while another runs is refused with FLUX_BUSY. */
export interface NativeNetwork {
  /** `memoryLimit`: bytes that copied or repacked weights may take in this machine's memory; more is refused with FLUX_OUT_OF_MEMORY */
  load(memoryLimit: number): Promise<void>
  /**
   * Evaluates the network. What `mode`, `shape` and `inputs` mean is told at the head of the network's C++ file; outputs are new arrays.
   * `memoryLimit`: bytes that the buffers for activations may take. `profiled`: every operation is timed on its own, which takes longer;
   * otherwise `profile` is empty.
   */
  run(
    mode: string,
    shape: number[],
    inputs: NativeArray[],
    memoryLimit: number,
    profiled?: boolean,
  ): Promise<{ outputs: Float32Array[]; profile: NativeOperation[] }>
  /** bytes of the buffers for activations that `run` would need; allocates none, reads no weights. Only before `load` */
  measure(mode: string, shape: number[]): Promise<number>
  /**
   * What linear layers have added from now on, in place of what they had.
   * `tensors` are those of the additions, in `files`, which are copied and may change afterwards.
   */
  adapt(files: string[], tensors: NativeTensor[], additions: NativeAddition[], memoryLimit: number): Promise<void>
  /** frees the buffers for activations; the next `run` allocates them again */
  trim(): Promise<void>
  /** makes the running call reject with the message 'FLUX_ABORTED' at its next stop point; does nothing when idle */
  cancel(): void
  /** waits for the running call, frees everything; idempotent */
  close(): Promise<void>
  /** the figures of memory are zero until the network is loaded, and while a call runs */
  status(): NativeStatus
}

export interface NativeAddon {
  /** loads ggml's backend modules from `directory`, once per process; later calls do nothing */
  loadBackends(directory: string): void
  devices(): NativeDevice[]
  /** `kind`: one that `make_network` knows; `config`: the numbers of the network's configuration, by name */
  Network: new (
    kind: string,
    files: string[],
    tensors: NativeTensor[],
    config: Record<string, number>,
    options: NativeOptions,
  ) => NativeNetwork
  /** measures for about half a second */
  roof(threads: number): Promise<NativeRoof>
  /**
   * Computes with `device` for who connects to `endpoint` (host:port), one client after the other. Returns only by throwing, where it cannot
   * listen: a process of its own is for it.
   */
  serveRpc(endpoint: string, device: string, threads: number): never
  /** the numbers of a tensor in the type with ggml's number `type`, as bytes; a whole tensor, or rows of one, which additions may be merged into */
  convert(files: string[], tensor: NativeTensor, type: number, merged?: NativeMerged): Promise<Uint8Array>
  /** ggml's reference quantiser: rows of `rowLength` finite numbers into blocks of `type` */
  quantize(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array>
  /** takes the lock of an open file (flock, LockFile) until it is closed; false where somebody else has it */
  lockFile(fd: number): boolean
  /**
   * cancels and waits for whatever runs, frees all networks of this thread; afterwards every call is refused with FLUX_CLOSED. What an RPC
   * server that does not answer keeps waiting is left behind after two seconds
   */
  shutdown(): void
}

let addon: NativeAddon | undefined

/**
 * The addon, loaded at the first call.
 *
 * @throws {FluxError} FLUX_NOT_FOUND when there is no binary for this platform, or it cannot be loaded: the message tells how to get one
 */
export function nativeAddon(): NativeAddon {
  return (addon ??= loadAddon())
}

function loadAddon(): NativeAddon {
  const require = createRequire(import.meta.url)
  const root = fileURLToPath(new URL('../..', import.meta.url))
  try {
    const file = (require('node-gyp-build') as { resolve(root: string): string }).resolve(root)
    const loaded = require(file) as NativeAddon
    // Electron: a library cannot be loaded from inside an archive, only from the folder that was left unpacked beside it
    loaded.loadBackends(path.dirname(file).replace(/app\.asar(?!\.unpacked)/, 'app.asar.unpacked'))
    process.once('exit', () => loaded.shutdown())
    return loaded
  } catch (cause) {
    throw new FluxError(
      'FLUX_NOT_FOUND',
      `the native part of ggflux cannot be loaded on ${process.platform}-${process.arch}: ${(cause as Error).message.trim()}\n` +
        `What to do: npm may have been told not to run install scripts. Run\n  npm rebuild ggflux --ignore-scripts=false\n` +
        `(with npm 12 first: npm install-scripts approve ggflux), or, past npm,\n  node ${path.join(root, 'scripts', 'install.mjs')}\n` +
        `CMake, git and a C++ compiler are needed (Debian, Ubuntu: apt install cmake git g++). ` +
        `In an Electron app, keep node_modules/ggflux out of the archive (asarUnpack).`,
      { cause },
    )
  }
}

/** A native failure as what the public surface throws. A call is aborted by a shutdown, or by a signal, which the caller knows. */
export function fluxError(error: unknown): unknown {
  const text = error instanceof Error ? error.message : ''
  if (text === 'FLUX_ABORTED') return new FluxError('FLUX_CLOSED', 'ggflux was shut down', { cause: error })
  const [, code, message] = /^(FLUX_[A-Z_]+): (.*)$/s.exec(text) ?? []
  return code ? new FluxError(code as FluxErrorCode, message!, { cause: error }) : error
}

/** ggml's reference quantiser, see {@link NativeAddon.quantize}. */
export async function nativeQuantize(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array> {
  try {
    return await nativeAddon().quantize(type, data, rowLength)
  } catch (error) {
    throw fluxError(error)
  }
}

/** Whether the lock of an open file could be taken, see {@link NativeAddon.lockFile}. */
export function nativeLockFile(fd: number): boolean {
  try {
    return nativeAddon().lockFile(fd)
  } catch (error) {
    throw fluxError(error)
  }
}

/** Serves until the process is ended from outside: nothing else runs in it any more. See {@link NativeAddon.serveRpc}. */
export function nativeServeRpc(endpoint: string, device: string, threads: number): never {
  try {
    return nativeAddon().serveRpc(endpoint, device, threads)
  } catch (error) {
    throw fluxError(error)
  }
}
