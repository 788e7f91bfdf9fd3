import { chooseDevice } from '../native/devices.js'
import type { Flops, Work } from '../networks/flops.js'
import { fluxError, nativeAddon, type NativeRoof } from '../native/addon.js'
import { requireWhole } from '../options/checks.js'

export type Roof = NativeRoof

/**
 * Measures the peak speed of this machine's CPU for about half a second. Other speeds are expressed as a share of it.
 *
 * @param threads 1 to 512
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_OUT_OF_MEMORY when 256 MiB are not free; FLUX_CLOSED after a shutdown
 */
export function measureRoof(threads: number): Promise<Roof> {
  requireWhole('threads', threads, 1, 512)
  return nativeAddon()
    .roof(threads)
    .catch((error: unknown) => {
      throw fluxError(error)
    })
}

const roofs = new Map<number, Promise<Roof>>()

/** The peak of the device for `backend`, measured once per process; undefined on devices other than the CPU. */
export function deviceRoof(backend: string | undefined, threads: number): Promise<Roof> | undefined {
  if (chooseDevice(backend) !== chooseDevice('cpu')) return undefined
  const known = roofs.get(threads)
  if (known) return known
  const roof = measureRoof(threads)
  roofs.set(threads, roof)
  roof.catch(() => roofs.delete(threads)) // the next call measures again
  return roof
}

/**
 * Predicts how long work takes: operations divided by the share of the peak that such work reaches. After work was
 * timed, its time per operation is stored, so that the next prediction uses the real speed of this machine.
 */
export class CostModel {
  readonly #roof: () => Promise<Roof> | undefined
  readonly #factors = new Map<Work, number>()

  /** @param roof returns undefined if the peak cannot be measured; predictions then start after the first `learn` */
  constructor(roof: () => Promise<Roof> | undefined) {
    this.#roof = roof
  }

  /**
   * @param rounded whether factors may be rounded to bfloat16, which some processors multiply faster than F32
   * @returns seconds; undefined if nothing is known yet
   */
  async predict(work: Work, operations: Flops, rounded: boolean): Promise<number | undefined> {
    const factor = this.#factors.get(work)
    if (factor !== undefined) return factor * total(operations)
    const roof = await this.#roof()
    if (!roof) return undefined
    const bf16 = rounded && roof.products !== 'f32'
    const { products, attention } = SHARES[work][bf16 ? 'bf16' : 'f32']
    return (operations.products / products + operations.attention / attention) / (bf16 ? roof.registers : roof.floats)
  }

  observe(work: Work, operations: Flops, seconds: number): void {
    this.#factors.set(work, seconds / total(operations))
  }
}

const total = ({ products, attention }: Flops): number => products + attention

/**
 * Shares of the register arithmetic's peak, reached at full size (docs/performance.md). Text encoding includes loading.
 */
const SHARES: Record<Work, Record<'bf16' | 'f32', Flops>> = {
  text: { bf16: { products: 0.7, attention: 0.3 }, f32: { products: 0.7, attention: 0.3 } },
  step: { bf16: { products: 0.86, attention: 0.68 }, f32: { products: 0.84, attention: 0.55 } },
  decode: { bf16: { products: 0.7, attention: 0.5 }, f32: { products: 0.75, attention: 0.5 } },
}
