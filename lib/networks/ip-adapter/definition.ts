import type { NetworkDefinition } from '../definition.js'
import { productFlops } from '../flops.js'
import { IP_ADAPTER_RULES, ipAdapterConfig, ipAdapterLayout, type IpAdapterConfig } from './layout.js'

const v1: IpAdapterConfig = { clipEmbeddingsDim: 768, numTokens: 4, contextDim: 4096, hiddenSize: 3072, depth: 19 }

/** XLabs' IP-Adapter for FLUX.1. Examples: XLabs-AI/flux-ip-adapter and -v2 on huggingface.co. */
export const IP_ADAPTER: NetworkDefinition<IpAdapterConfig, 'ip-adapter'> = {
  kind: 'ip-adapter',
  label: "XLabs' IP-Adapter for FLUX.1",
  role: 'ip-adapter',
  describe: ({ numTokens, depth }) => `XLabs' IP-Adapter for FLUX.1 (${numTokens} tokens, ${depth} blocks)`,
  names: {
    prefixes: [''],
    renames: [],
    aliases: {},
    ignored: [],
    marks: ['ip_adapter_proj_model.proj.weight', 'double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight'],
  },
  rules: IP_ADAPTER_RULES,
  readConfig: ipAdapterConfig,
  layout: ipAdapterLayout,
  nativeConfig: (config) => ({ ...config }),
  flops: (config, [imageTokens]: readonly [number]) => ({
    products: productFlops(ipAdapterLayout(config), (name) =>
      name.startsWith('ip_adapter_proj_model') ? 1 : config.numTokens,
    ),
    attention: config.depth * 4 * imageTokens * config.numTokens * config.hiddenSize,
  }),
  gguf: { architecture: 'flux-ip-adapter' },
  keep: [{ name: /^ip_adapter_proj_model\./, type: 'BF16' }],
  random: [],
  examples: {
    'flux-ip-adapter': v1,
    'flux-ip-adapter-v2': { ...v1, numTokens: 16 },
    'flux-ip-adapter-tiny': { clipEmbeddingsDim: 48, numTokens: 4, contextDim: 256, hiddenSize: 256, depth: 2 },
  },
}
