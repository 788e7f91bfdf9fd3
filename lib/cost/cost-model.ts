import { chooseDevice } from '../native/devices.js'
import type { Flops, Work } from '../networks/flops.js'
import { fluxError, nativeAddon, type NativeRoof } from '../native/addon.js'
import { requireWhole } from '../options/checks.js'

export type Roof = NativeRoof

/**
 * What this machine's CPU can do at best, measured for about half a second: what the speed of everything else is a share of.
 *
 * @param threads 1 to 512
 * @throws {FluxError} FLUX_BAD_OPTION; FLUX_OUT_OF_MEMORY where 256 MiB are not free; FLUX_CLOSED after a shutdown
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

/** The roof of the device that `backend` means, measured once in a process; undefined on other devices than the CPU. */
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
 * Foretells how long work takes: operations over the share of the roof that such work reaches. After each piece of work that was timed, the
 * factor by which the foretold time was wrong is remembered, so that the next is foretold from this machine's own speed.
 */
export class Speed {
  readonly #roof: () => Promise<Roof> | undefined
  readonly #factors = new Map<Work, number>()

  /** @param roof gives undefined on a device whose roof cannot be measured: nothing is foretold there before something was learnt */
  constructor(roof: () => Promise<Roof> | undefined) {
    this.#roof = roof
  }

  /**
   * @param rounded whether factors may be rounded to bfloat16, which some processors multiply faster than F32
   * @returns seconds; undefined where nothing is known
   */
  async foretell(work: Work, operations: Flops, rounded: boolean): Promise<number | undefined> {
    const factor = this.#factors.get(work)
    if (factor !== undefined) return factor * total(operations)
    const roof = await this.#roof()
    if (!roof) return undefined
    const bf16 = rounded && roof.products !== 'f32'
    const { products, attention } = SHARES[work][bf16 ? 'bf16' : 'f32']
    return (operations.products / products + operations.attention / attention) / (bf16 ? roof.registers : roof.floats)
  }

  learn(work: Work, operations: Flops, seconds: number): void {
    this.#factors.set(work, seconds / total(operations))
  }
}

const total = ({ products, attention }: Flops): number => products + attention

/** Shares of the arithmetic's register roof that were reached at full size (docs/performance.md); text encoding includes loading the encoders. */
const SHARES: Record<Work, Record<'bf16' | 'f32', Flops>> = {
  text: { bf16: { products: 0.7, attention: 0.3 }, f32: { products: 0.7, attention: 0.3 } },
  step: { bf16: { products: 0.86, attention: 0.68 }, f32: { products: 0.84, attention: 0.55 } },
  decode: { bf16: { products: 0.7, attention: 0.5 }, f32: { products: 0.75, attention: 0.5 } },
}
