import { chooseDevice } from '../native/devices.js'
import type { Flops, Work } from '../networks/flops.js'
import { fluxError, nativeAddon, type NativePeak } from '../native/addon.js'
import { requireWhole } from '../options/checks.js'

export type Peak = NativePeak

/**
 * Measures the peak speed of this machine's CPU for about half a second. Other speeds are expressed as a share of it.
 *
 * @param threads 1 to 512
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_OUT_OF_MEMORY when 256 MiB are not free; FLUX_CLOSED after a shutdown
 */
export function measurePeak(threads: number): Promise<Peak> {
  requireWhole('threads', threads, 1, 512)
  return nativeAddon()
    .peak(threads)
    .catch((error: unknown) => {
      throw fluxError(error)
    })
}

const peaks = new Map<number, Promise<Peak>>()

/** The peak of the device for `backend`, measured once per process; undefined on devices other than the CPU. */
export async function devicePeak(backend: string | undefined, threads: number): Promise<Peak | undefined> {
  if ((await chooseDevice(backend)).name !== (await chooseDevice('cpu')).name) return undefined
  const known = peaks.get(threads)
  if (known) return known
  const peak = measurePeak(threads)
  peaks.set(threads, peak)
  peak.catch(() => peaks.delete(threads)) // the next call measures again
  return peak
}

/**
 * Predicts how long work takes: operations divided by the share of the peak that such work reaches. After work was
 * timed, its time per operation is stored, so that the next prediction uses the real speed of this machine.
 */
export class CostModel {
  readonly #peak: () => Promise<Peak | undefined>
  readonly #factors = new Map<Work, number>()

  /** @param peak returns undefined if the peak cannot be measured; predictions then start after the first `learn` */
  constructor(peak: () => Promise<Peak | undefined>) {
    this.#peak = peak
  }

  /**
   * @param rounded whether factors may be rounded to bfloat16, which some processors multiply faster than F32
   * @returns seconds; undefined if nothing is known yet
   */
  async predict(work: Work, operations: Flops, rounded: boolean): Promise<number | undefined> {
    const factor = this.#factors.get(work)
    if (factor !== undefined) return factor * total(operations)
    const peak = await this.#peak()
    if (!peak) return undefined
    const bf16 = rounded && peak.products !== 'f32'
    const { products, attention } = SHARES[work][bf16 ? 'bf16' : 'f32']
    return (operations.products / products + operations.attention / attention) / (bf16 ? peak.registers : peak.floats)
  }

  observe(work: Work, operations: Flops, seconds: number): void {
    if (total(operations) > 0) this.#factors.set(work, seconds / total(operations))
  }
}

const total = ({ products, attention }: Flops): number => products + attention

/**
 * Shares of the register arithmetic's peak, reached at full size (docs/performance.md). Text encoding includes loading.
 */
const SHARES: Record<Work, Record<'bf16' | 'f32', Flops>> = {
  text: { bf16: { products: 0.7, attention: 0.3 }, f32: { products: 0.7, attention: 0.3 } },
  encode: { bf16: { products: 0.7, attention: 0.5 }, f32: { products: 0.75, attention: 0.5 } },
  step: { bf16: { products: 0.86, attention: 0.68 }, f32: { products: 0.84, attention: 0.55 } },
  decode: { bf16: { products: 0.7, attention: 0.5 }, f32: { products: 0.75, attention: 0.5 } },
}
