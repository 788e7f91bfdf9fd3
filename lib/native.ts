/**
 * The whole boundary between TypeScript and C++. Everything that crosses it is a plain value that was checked on this side; the native
 * side checks again whatever could make it crash. Failures arrive as errors whose message begins with a FLUX_ code.
 */

export type NetworkKind = 'flux' | 't5' | 'clip' | 'autoencoder'

/** One tensor of a model file. */
export interface NativeTensor {
  /** canonical name, see the layouts in `lib/models/layouts` */
  name: string
  /** ggml's type number */
  type: number
  /** ggml's order: the fastest dimension first; 1 to 4 of them */
  shape: number[]
  /** which of the `files` it lies in */
  file: number
  /** bytes from the beginning of that file */
  offset: number
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
  /** a device's name as `devices()` gives it */
  device: string
  threads: number
}

export interface NativeMemory {
  /** bytes of weights held in buffers of the device (repacked, uploaded or copied) */
  weights: number
  /** bytes of weights used where they lie in the file's mapping */
  mapped: number
  /** bytes of the buffers for activations */
  compute: number
}

export type NativeArray = Float32Array | Int32Array

/** One network with its weights. One call at a time; `run` while another runs is refused with FLUX_BUSY. */
export interface NativeNetwork {
  /**
   * Evaluates the network. What `mode`, `shape` and `inputs` mean is told at the head of the network's C++ file; outputs are new arrays.
   * `memoryLimit`: bytes that the buffers for activations may take; more is refused with FLUX_OUT_OF_MEMORY.
   */
  run(mode: string, shape: number[], inputs: NativeArray[], memoryLimit: number): Promise<Float32Array[]>
  /** makes the running call reject with the message 'FLUX_ABORTED' at its next stop point; does nothing when idle */
  cancel(): void
  /** waits for the running call, frees everything; idempotent */
  close(): Promise<void>
  memory(): NativeMemory
}

export interface NativeAddon {
  /** loads ggml's backend modules from `directory`, once per process; later calls do nothing */
  loadBackends(directory: string): void
  devices(): NativeDevice[]
  /** `config`: the numbers of the network's configuration, by name. `memoryLimit`: bytes that copied or repacked weights may take. */
  load(
    kind: NetworkKind,
    files: string[],
    tensors: NativeTensor[],
    config: Record<string, number>,
    options: NativeOptions,
    memoryLimit: number,
  ): Promise<NativeNetwork>
  /** ggml's reference quantiser: rows of `rowLength` numbers into blocks of `type` */
  quantize(type: number, data: Float32Array, rowLength: number): Promise<Uint8Array>
  /** cancels and waits for whatever runs, frees all networks; afterwards every call is refused with FLUX_CLOSED */
  shutdown(): void
}
