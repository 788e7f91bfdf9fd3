import { adaptTo, type VersionedPlan } from '../networks/lora/ensure-loras.js'
import { requireFinite } from '../networks/finite.js'
import type { Held } from './lazy-network.js'
import type { LoraOptions } from '../networks/lora/assignment.js'
import type { ClipTextEncoder, T5Encoder } from '../nn.js'
import type { ClipTokenizer } from '../tokenizers/clip.js'
import type { T5Tokenizer } from '../tokenizers/t5.js'

/** What the transformer is told of the prompt. */
export interface PromptEmbedding {
  /** T5's states [maxSequenceLength, contextInDim] */
  txt: Float32Array
  /** CLIP's pooled output [vecInDim] */
  vec: Float32Array
  /** which of the encoders saw only the beginning of the prompt */
  truncated: ('t5' | 'clip')[]
}

/** LoRAs that have something for the encoders. */
export type EncoderLoras = Pick<VersionedPlan, 't5' | 'clip' | 'version'>

/** 8 MB each at full size. */
const REMEMBERED = 4

/**
 * From a prompt to its embedding: both tokenizers, both encoders. The embeddings that were used last are remembered, so that one prompt with many
 * seeds is encoded once.
 */
export class PromptEncoder {
  readonly #t5Tokenizer: T5Tokenizer
  readonly #clipTokenizer: ClipTokenizer
  readonly #remembered = new Map<string, PromptEmbedding>()
  readonly t5: Held<T5Encoder>
  readonly clip: Held<ClipTextEncoder>
  /** free the encoders' memory after each prompt */
  readonly #release: boolean

  constructor(
    tokenizers: { t5: T5Tokenizer; clip: ClipTokenizer },
    t5: Held<T5Encoder>,
    clip: Held<ClipTextEncoder>,
    release: boolean,
  ) {
    this.#t5Tokenizer = tokenizers.t5
    this.#clipTokenizer = tokenizers.clip
    this.t5 = t5
    this.clip = clip
    this.#release = release
  }

  /** whether `encode` has nothing to compute */
  remembers(prompt: string, maxSequenceLength: number, loras: EncoderLoras): boolean {
    return this.#remembered.has(key(prompt, maxSequenceLength, loras))
  }

  /**
   * @param maxSequenceLength T5's tokens; the prompt is cut off or padded to it, and the padding takes part, as in the official program
   * @param loras what acts beside the encoders' weights
   */
  async encode(
    prompt: string,
    maxSequenceLength: number,
    loras: EncoderLoras,
    signal?: AbortSignal,
  ): Promise<PromptEmbedding> {
    const asked = key(prompt, maxSequenceLength, loras)
    const embedding = this.#remembered.get(asked) ?? (await this.#compute(prompt, maxSequenceLength, loras, signal))
    // in the order of use: the first is the one that was not needed for the longest time
    this.#remembered.delete(asked)
    this.#remembered.set(asked, embedding)
    if (this.#remembered.size > REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value!)
    return embedding
  }

  async #compute(
    prompt: string,
    maxSequenceLength: number,
    loras: EncoderLoras,
    signal: AbortSignal | undefined,
  ): Promise<PromptEmbedding> {
    const t5Tokens = this.#t5Tokenizer.encode(prompt, maxSequenceLength)
    const clipTokens = this.#clipTokenizer.encode(prompt)
    const options = signal ? { signal } : {}
    const txt = await this.#use(this.t5, loras.t5, signal, async (t5) => {
      const states = await t5.encode(t5Tokens.ids, options)
      requireFinite(states, 'the output of the T5 encoder', t5.path, loras.t5)
      return states
    })
    const vec = await this.#use(this.clip, loras.clip, signal, async (clip) => {
      const { pooled } = await clip.encode(clipTokens.ids, { eos: clipTokens.eos, ...options })
      requireFinite(pooled, 'the output of the CLIP encoder', clip.path, loras.clip)
      return pooled
    })
    const truncated = [
      ...(t5Tokens.truncated ? (['t5'] as const) : []),
      ...(clipTokens.truncated ? (['clip'] as const) : []),
    ]
    return { txt, vec, truncated }
  }

  async #use<N extends T5Encoder | ClipTextEncoder, R>(
    held: Held<N>,
    loras: readonly LoraOptions[],
    signal: AbortSignal | undefined,
    work: (network: N) => Promise<R>,
  ): Promise<R> {
    try {
      const network = await held.get(signal)
      await adaptTo(network, loras)
      return await work(network)
    } finally {
      if (this.#release) await held.release()
    }
  }
}

const key = (prompt: string, maxSequenceLength: number, { t5, clip, version }: EncoderLoras): string =>
  JSON.stringify([maxSequenceLength, prompt, t5.length + clip.length > 0 ? version : ''])
