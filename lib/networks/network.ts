import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { onAbort } from '../options/abort.js'
import { chooseDevice } from '../native/devices.js'
import { FluxError } from '../errors.js'
import { freeMemory } from '../native/free-memory.js'
import type { NetworkFile } from './network-file.js'
import { networkDefinition } from './registry.js'
import {
  fluxError,
  nativeAddon,
  type NativeAdapter,
  type NativeArray,
  type NativeAttachment,
  type NativeNetwork,
  type NativeProfileRow,
  type NativeStatus,
  type NativeTensor,
  type Precision,
} from '../native/addon.js'
import { badOption, requireDeviceMemory, requireOneOf, requireWhole } from '../options/checks.js'
import { parseRpcAddress, useRpcServer } from '../native/rpc-client.js'
import type { ModelFile } from '../formats/model-file.js'

export interface NetworkOptions {
  /**
   * 'auto': a GPU, one with its own memory before an integrated one with 8 GB or more, or else the CPU; 'cpu'; 'gpu';
   * a device's name as `devices()` returns it; or 'rpc://host:port' for the first device of a machine that runs
   * `ggflux rpc-server` ('rpc://host:port/1' for its second).
   *
   * @default 'auto'
   */
  backend?: string
  /** number of CPU threads, 1 to 512. @default the number of processors */
  threads?: number
  /**
   * The rounding in computations. 'auto': activations are rounded to bfloat16 or 8 bits, except with F32 and F16
   * weights. 'bf16': all operands of multiplications are rounded, including convolutions. This is faster on processors
   * with BF16 products and has no effect on others. 'f32': no rounding, whatever the type of the weights. This is many
   * times slower and is meant for judging the effect of rounding.
   *
   * @default 'auto'
   */
  precision?: Precision
  /**
   * Bytes that the weights of each network may take on a GPU or an RPC server. Weights that do not fit stay in this
   * machine's memory. For a GPU, they are copied to it at each step. For an RPC server, this CPU computes with them. 0
   * or more.
   *
   * @default the free memory there, minus 1.5 GiB for activations
   */
  deviceMemory?: number
  signal?: AbortSignal
  /** fraction of the weights that is loaded, 0 to 1 */
  onProgress?: (progress: number) => void
}

/** The cost of one kind of operation, see {@link LoadedNetwork.profile}. */
export type ProfileRow = NativeProfileRow

export const PRECISIONS = ['auto', 'f32', 'bf16'] as const satisfies Precision[]

const PROGRESS_INTERVAL_MS = 100

/** The common parts of all networks: a file, its configuration, its native part, and closing it. */
export abstract class LoadedNetwork<C extends object> {
  readonly config: C
  protected readonly kind: string
  /** the file that the weights came from */
  readonly path: string
  readonly #native: NativeNetwork
  #running: Promise<unknown> | undefined
  /** lists of the profiles that run; each gets the rows of evaluations that begin while it runs */
  readonly #profiles = new Set<ProfileRow[]>()
  #closing: Promise<void> | undefined

  constructor(file: NetworkFile<C>, native: NativeNetwork) {
    this.config = file.config
    this.kind = file.kind
    this.path = file.file.path
    this.#native = native
  }

  /** Loads the weights of a checked file onto a device. */
  static async start(file: NetworkFile<object>, options: NetworkOptions): Promise<NativeNetwork> {
    const { signal, onProgress } = options
    const network = await create(file, options)
    const failed = new AbortController()
    const tell = () => {
      try {
        onProgress!(network.status().progress)
      } catch (error) {
        clearInterval(timer)
        failed.abort(error)
      }
    }
    const timer = onProgress && setInterval(tell, PROGRESS_INTERVAL_MS)
    try {
      await cancellable(network, signal ? AbortSignal.any([signal, failed.signal]) : failed.signal, () =>
        network.load(freeMemory()),
      )
      failed.signal.throwIfAborted()
      onProgress?.(1)
      return network
    } catch (error) {
      await free(network)
      throw inFile(file, error)
    } finally {
      clearInterval(timer)
    }
  }

  /** Bytes of activation buffers that an evaluation with these attachments would need. No weights are read. */
  static async measure(
    file: NetworkFile<object>,
    options: NetworkOptions,
    mode: string,
    shape: number[],
    attachments: readonly NetworkFile<object>[] = [],
  ): Promise<number> {
    const network = await create(file, options)
    try {
      return await cancellable(network, options.signal, () =>
        network.measure(mode, shape, attachments.map(nativeAttachment)),
      )
    } catch (error) {
      throw inFile(file, error)
    } finally {
      await free(network)
    }
  }

  protected async run(
    mode: string,
    shape: number[],
    inputs: NativeArray[],
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted()
    const profiles = [...this.#profiles]
    const { outputs, profile } = await this.#alone(
      () => this.#native.run(mode, shape, inputs, freeMemory(), profiles.length > 0),
      signal,
    )
    for (const rows of profiles) rows.push(...profile)
    return outputs
  }

  /**
   * Measures the time of each kind of operation in the evaluations of this network that begin while `work` runs. Timing
   * each operation separately makes the whole slightly slower.
   *
   * @throws {FluxError} FLUX_BAD_OPTION if `work` is no function; any error that it throws
   */
  profile(work: () => Promise<unknown>): Promise<ProfileRow[]> {
    return collectProfile(this.#profiles, work)
  }

  /** Sets the low-rank additions to linear layers, replacing the previous ones. */
  protected async add(files: string[], tensors: NativeTensor[], adapters: NativeAdapter[]): Promise<void> {
    await this.#alone(() => this.#native.adapt(files, tensors, adapters, freeMemory()))
  }

  /**
   * Loads networks that this one evaluates in its own graph, replacing the previous ones.
   *
   * @param files of all of them
   * @param begin called when nothing can refuse the call any more. Returns the files to load, and for those that are
   *   loaded already their previous indices. If the call fails afterwards, nothing is attached.
   */
  protected async attachFiles(
    files: readonly NetworkFile<object>[],
    begin: () => (NetworkFile<object> | number)[],
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted()
    for (const { file } of files) await requireUnchanged(file)
    const attach = () => {
      const attachments = begin().map((item) => (typeof item === 'number' ? item : nativeAttachment(item)))
      return this.#native.attach(attachments, freeMemory())
    }
    await this.#alone(attach, signal)
  }

  /**
   * Frees the activation buffers, which the next evaluation allocates again. Does nothing during an evaluation or after
   * `close()`.
   */
  async trim(): Promise<void> {
    if (this.#running || this.#closing) return
    await this.#alone(() => this.#native.trim())
  }

  /** Allows one call at a time. */
  async #alone<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#closing) throw new FluxError('FLUX_CLOSED', `${this.path} was closed; load it again`)
    if (this.#running) throw busyNetwork()
    const running = cancellable(this.#native, signal, work)
    this.#running = running
    try {
      return await running
    } finally {
      this.#running = undefined
    }
  }

  /** Bytes in use. The figures are zero during a call and after `close()`. */
  memory(): Pick<NativeStatus, 'weights' | 'mapped' | 'compute'> {
    const { weights, mapped, compute } = this.#native.status()
    return { weights, mapped, compute }
  }

  /** Waits for the running call, then frees all memory at once. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= (async () => {
      await this.#running?.catch(() => {})
      await free(this.#native)
    })())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

function nativeAttachment({ kind, file, config, tensors }: NetworkFile<object>): NativeAttachment {
  const numbers = networkDefinition(kind).nativeConfig(config)
  return { kind, files: file.parts ?? [file.path], tensors, config: numbers }
}

async function create(
  { kind, file, config, tensors }: NetworkFile<object>,
  { backend, threads = availableParallelism(), precision = 'auto', deviceMemory, signal }: NetworkOptions,
): Promise<NativeNetwork> {
  requireWhole('threads', threads, 1, 512)
  requireOneOf('precision', precision, PRECISIONS)
  if (deviceMemory !== undefined) requireDeviceMemory(deviceMemory)
  signal?.throwIfAborted()
  const addon = nativeAddon()
  const { name: device } = await chooseDevice(backend, signal ? { signal } : {})
  const remote = parseRpcAddress(device)
  await requireUnchanged(file)
  const leaveServer = remote && (await useRpcServer(remote, signal))
  try {
    const numbers = networkDefinition(kind).nativeConfig(config)
    const network = new addon.Network(kind, file.parts ?? [file.path], tensors, numbers, {
      device,
      threads,
      precision,
      deviceMemory,
    })
    if (leaveServer) servers.set(network, leaveServer)
    return network
  } catch (error) {
    leaveServer?.()
    throw fluxError(error)
  }
}

/** The tensors' offsets were read from the header. They are wrong if another file has replaced it. */
async function requireUnchanged({ read = [] }: ModelFile): Promise<void> {
  for (const { path, size, mtimeMs } of read) {
    const now = await stat(path).catch(() => undefined) // the addon reports what is wrong with it
    if (now && (now.size !== size || now.mtimeMs !== mtimeMs)) {
      throw new FluxError('FLUX_BAD_FILE', `${path} was changed after its header was read; load the model again`)
    }
  }
}

/**
 * Runs `work` with a list among `profiles`, and returns what was added to it.
 *
 * @throws {FluxError} FLUX_BAD_OPTION if `work` is no function; any error that it throws
 */
export async function collectProfile(profiles: Set<ProfileRow[]>, work: () => Promise<unknown>): Promise<ProfileRow[]> {
  if (typeof work !== 'function') throw badOption('work', work, 'a function')
  const rows: ProfileRow[] = []
  profiles.add(rows)
  try {
    await work()
    return sumByKind(rows).sort((a, b) => b.ms - a.ms)
  } finally {
    profiles.delete(rows)
  }
}

/** Adds up the rows of several evaluations. */
function sumByKind(rows: readonly ProfileRow[]): ProfileRow[] {
  const sums = new Map<string, ProfileRow>()
  for (const row of rows) {
    const key = `${row.name} ${row.type}`
    const { count, ms, operations, bytes } = sums.get(key) ?? { count: 0, ms: 0, operations: 0, bytes: 0 }
    sums.set(key, {
      ...row,
      count: count + row.count,
      ms: ms + row.ms,
      operations: operations + row.operations,
      bytes: bytes + row.bytes,
    })
  }
  return [...sums.values()]
}

function inFile({ file }: NetworkFile<unknown>, error: unknown): unknown {
  return error instanceof FluxError
    ? new FluxError(error.code, `${file.path}: ${error.message}`, { cause: error })
    : error
}

/** The functions to call when networks that compute on a server are freed. */
const servers = new WeakMap<NativeNetwork, () => void>()

async function free(network: NativeNetwork): Promise<void> {
  // this fails only after a shutdown, which has freed everything
  await network.close().catch(() => {})
  servers.get(network)?.()
  servers.delete(network)
}

/** Passes an abort on to the network. Settles when the network has stopped, with the signal's reason. */
async function cancellable<T>(
  network: NativeNetwork,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const unlisten = signal && onAbort(signal, () => network.cancel())
  try {
    return await work()
  } catch (error) {
    throw (error as Error).message === 'FLUX_ABORTED' && signal?.aborted ? signal.reason : fluxError(error)
  } finally {
    unlisten?.()
  }
}

export function busyNetwork(): FluxError {
  return new FluxError('FLUX_BUSY', 'the network is at work; wait for the running call before the next')
}
