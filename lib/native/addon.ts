/**
 * The complete interface between TypeScript and C++. All values that cross it are plain and are checked on the
 * TypeScript side. The native side checks again everything that could crash it. Failures arrive as errors whose message
 * begins with a FLUX_ code.
 */

import { createRequire } from 'node:module'
import path from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { FluxError, type FluxErrorCode } from '../errors.js'
import { findAddon, loaderRemedy, outsideArchive, PLATFORM } from './locate.js'

export type Precision = 'auto' | 'f32' | 'bf16'

/** One tensor of a model file. */
export interface NativeTensor {
  /** canonical name, see the layouts in `lib/networks` */
  name: string
  /** ggml's type number */
  type: number
  /** in ggml's order, the fastest dimension first; 1 to 4 dimensions */
  shape: number[]
  /** the file stores it as this kind of float8; the bytes are widened to `type`, BF16 or F32 */
  float8?: 'e4m3fn' | 'e5m2'
  /** the locations of its rows; the pieces are consecutive */
  pieces: NativePiece[]
}

/** Consecutive rows of a tensor in a file. */
export interface NativePiece {
  /** index into `files` */
  file: number
  /** bytes from the beginning of that file */
  offset: number
  bytes: number
  /** offset in the file of the F32 value that the float8 numbers are multiplied by */
  scale?: number
}

/**
 * An addition to a matrix or vector of the network, to `rows` rows starting at `firstRow`. For a matrix, scale * M is
 * added. For a vector v, which is a bias or belongs to a norm, scale * d (difference) or scale * (d - v) (replacement)
 * is added. Here d is `left`, a matrix with one column.
 */
export interface NativeAdapter {
  /** canonical name */
  weight: string
  firstRow: number
  rows: number
  /**
   * M is `left` (LoRA: product, a whole matrix: difference), the elementwise product of `left` and `right` (LoHa), or their
   * Kronecker product (LoKr)
   */
  kind: 'product' | 'hadamard' | 'kronecker' | 'difference' | 'replacement'
  left: NativeFactor
  right?: NativeFactor
  scale: number
  /** the upper and the lower half of M or d are swapped first */
  halvesSwapped: boolean
}

/**
 * A matrix of `out` rows and `in` columns: `up` times `down`, or `down` alone. Tensors are given by name, shapes as
 * torch prints them.
 */
export interface NativeFactor {
  in: number
  out: number
  /** [rank, in], or [out, in] without `up` */
  down: string
  /** [out, rank] */
  up?: string
  rank?: number
}

/** A network that another one evaluates in its own graph. The fields are the arguments of `Network`. */
export interface NativeAttachment {
  kind: string
  files: string[]
  tensors: NativeTensor[]
  config: Record<string, number>
}

/**
 * Additions to one matrix, and the index in it of the first row that is converted. `tensors` contains the tensors of
 * the adapters, in `files`.
 */
export interface NativeMerged {
  files: string[]
  tensors: NativeTensor[]
  adapters: NativeAdapter[]
  first: number
}

export interface NativeDevice {
  name: string
  description: string
  kind: 'cpu' | 'gpu' | 'accelerator'
  /** ggml's name of what computes: CPU, CUDA, Vulkan, MTL (Metal) */
  backend: string
  /** a GPU that shares the machine's memory */
  integrated: boolean
  /** in bytes; 0 if the device does not report it */
  memoryTotal: number
  memoryFree: number
}

/** The drivers of GPUs, asked directly and not through ggml. */
export interface NativeDrivers {
  /** the devices of Vulkan's drivers; undefined if Vulkan's loader is not installed */
  vulkan?: {
    name: string
    kind: 'discrete' | 'integrated' | 'virtual' | 'software' | 'other'
    /** name and version of its driver */
    driver: string
    /** 16-bit numbers in buffers, which ggml needs */
    halfStorage: boolean
  }[]
  /** undefined if NVIDIA's driver is not installed */
  cuda?: {
    /** the newest version of CUDA that the driver supports: 13000 is 13.0; 0 if it does not answer */
    version: number
    /** the driver's version; empty if it does not say */
    driver: string
  }
}

export interface NativeOptions {
  /** a device's name as `devices()` returns it, or `rpc://host:port/n` */
  device: string
  threads: number
  /** the precision that activations may be rounded to */
  precision: Precision
  /** bytes that weights may take on a device with its own memory; all free memory if undefined */
  deviceMemory?: number | undefined
}

export interface NativeStatus {
  /** loading progress, 0 to 1 */
  progress: number
  /** bytes of weights in the device's buffers (repacked, uploaded or copied) */
  weights: number
  /** bytes of weights that are used directly from the memory-mapped file */
  mapped: number
  /** bytes of the activation buffers */
  compute: number
  /** of the graph that was evaluated last, and the most that it has room for */
  nodes: number
  maxNodes: number
}

/** The cost of one kind of operation in one evaluation. */
export interface NativeProfileRow {
  /** linear, attention, convolution, packing (of a kernel's operands), or ggml's own name */
  name: string
  /** the type of its first source; for a linear layer, the type of its weights */
  type: string
  count: number
  ms: number
  /** multiplications and adapters; 0 if they are negligible compared to the bytes */
  operations: number
  /** bytes of sources and results */
  bytes: number
}

/** The peak performance of this machine's CPU with the given number of threads. */
export interface NativePeak {
  /** what linear layers multiply with on this CPU: AMX tiles, AVX-512's BF16 products, or F32 */
  products: 'bf16-tiles' | 'bf16' | 'f32'
  /** operations per second with operands in registers */
  registers: number
  /** operations per second with operands from the second-level cache, as in a linear layer; 0 if it is unknown */
  cache: number
  /** F32 operations per second with operands in registers, for multiplications without any rounding */
  floats: number
  /** bytes per second read from memory */
  memory: number
}

export type NativeArray = Float32Array | Int32Array

/**
 * One network with its weights. It accepts one call at a time: `load` or `run` during another call is refused with
 * FLUX_BUSY.
 */
export interface NativeNetwork {
  /**
   * `memoryLimit`: bytes that copied or repacked weights may take in this machine's memory; exceeding it fails with
   * FLUX_OUT_OF_MEMORY
   */
  load(memoryLimit: number): Promise<void>
  /**
   * Evaluates the network. The head of the network's C++ file documents `mode`, `shape` and `inputs`. Outputs are new
   * arrays. `memoryLimit`: bytes that the activation buffers may take. `profiled`: every operation is timed separately,
   * which takes longer; otherwise `profile` is empty.
   */
  run(
    mode: string,
    shape: number[],
    inputs: NativeArray[],
    memoryLimit: number,
    profiled?: boolean,
  ): Promise<{ outputs: Float32Array[]; profile: NativeProfileRow[] }>
  /**
   * bytes of the activation buffers that `run` would need with these attachments; allocates none, reads no weights.
   * Only before `load`
   */
  measure(mode: string, shape: number[], attachments?: NativeAttachment[]): Promise<number>
  /**
   * Sets the adapters to the linear layers, replacing the previous ones. `tensors` contains the tensors of the
   * adapters, in `files`. They are copied, so the files may change afterwards.
   */
  adapt(files: string[], tensors: NativeTensor[], adapters: NativeAdapter[], memoryLimit: number): Promise<void>
  /**
   * Loads networks that this one evaluates in its own graph, replacing the previous ones. A number keeps the attachment
   * that has this index now. Those that are not kept are freed first. If the call fails while it loads, none is left.
   */
  attach(attachments: (NativeAttachment | number)[], memoryLimit: number): Promise<void>
  /** frees the activation buffers; the next `run` allocates them again */
  trim(): Promise<void>
  /** makes the running call reject with the message 'FLUX_ABORTED' at its next stop point; does nothing when idle */
  cancel(): void
  /** waits for the running call, then frees everything; idempotent */
  close(): Promise<void>
  /** the memory figures are zero until the network is loaded, and during a call */
  status(): NativeStatus
}

export interface NativeAddon {
  /** loads ggml's CPU and RPC modules from `directory`, once per process; later calls do nothing */
  loadBackends(directory: string): void
  /** loads the module of a GPU backend, once per process. Returns why the system or ggml refuses it, or '' */
  loadModule(file: string): string
  devices(): NativeDevice[]
  /** whether the libraries that lead to drivers are installed; this runs no driver */
  driverLibraries(): { vulkan: boolean; cuda: boolean }
  drivers(): NativeDrivers
  /**
   * Computes something on a device and compares it with the CPU. Returns what is wrong, or ''. It blocks, and a driver
   * may end the process: only for a process of its own.
   */
  tryDevice(name: string): string
  /** `kind`: a kind that `make_network` knows; `config`: the numbers of the network's configuration, by name */
  Network: new (
    kind: string,
    files: string[],
    tensors: NativeTensor[],
    config: Record<string, number>,
    options: NativeOptions,
  ) => NativeNetwork
  /** measures for about half a second */
  peak(threads: number): Promise<NativePeak>
  /**
   * Computes with `device` for the clients that connect to `endpoint` (host:port), one client at a time. It never
   * returns, and throws only if it cannot listen. Run it in a separate process.
   */
  serveRpc(endpoint: string, device: string, threads: number): never
  /**
   * the numbers of a tensor in the type with ggml's number `type`, as bytes; for a whole tensor, or some of its rows,
   * with optional adapters merged into them
   */
  convert(files: string[], tensor: NativeTensor, type: number, merged?: NativeMerged): Promise<Uint8Array>
  /** ggml's reference quantiser: converts rows of `rowLength` finite numbers into blocks of `type` */
  quantize(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array>
  /** takes the lock of an open file (flock, LockFile) until the file is closed; false if it is already held */
  lockFile(fd: number): boolean
  /**
   * cancels and waits for all running calls, then frees all networks of this thread; every later call is refused with
   * FLUX_CLOSED. A call that still waits for an unresponsive RPC server is abandoned after two seconds
   *
   * @param exitStatus of the process, in case that it has to end without running destructors
   */
  shutdown(exitStatus?: number): void
}

let addon: NativeAddon | undefined

/**
 * The addon with the CPU's modules, loaded at the first call.
 *
 * @throws {FluxError} FLUX_NOT_FOUND if there is no binary for this platform, or it cannot be loaded; the message says
 *   how to get one
 */
export function nativeAddon(): NativeAddon {
  return (addon ??= loadAddon())
}

function loadAddon(): NativeAddon {
  const file = findAddon()
  try {
    const loaded = createRequire(import.meta.url)(file) as NativeAddon
    loaded.loadBackends(outsideArchive(path.dirname(file)))
    process.once('exit', (status) => loaded.shutdown(isMainThread ? status : undefined))
    return loaded
  } catch (cause) {
    const said = (cause as Error).message.trim()
    throw new FluxError(
      'FLUX_NOT_FOUND',
      loaderRemedy(said) ??
        `the native part of ggflux cannot be loaded on ${PLATFORM}: ${said}\n` +
          'What to do: install ggflux again, or compile it here: npx ggflux setup --from-source. ' +
          'In an Electron app, keep node_modules/ggflux and node_modules/@ggflux out of the archive (asarUnpack).',
      { cause },
    )
  }
}

/**
 * Converts a native failure to the error of the public API. A call is aborted by a shutdown or by a signal, which the
 * caller knows.
 */
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

/**
 * Serves until the process is ended from outside. Nothing else can run in this process any more. See
 * {@link NativeAddon.serveRpc}.
 */
export function nativeServeRpc(endpoint: string, device: string, threads: number): never {
  try {
    return nativeAddon().serveRpc(endpoint, device, threads)
  } catch (error) {
    throw fluxError(error)
  }
}
