import type { NetworkOptions } from '../../lib/nn.js'

/** The device that the native tests run on: GGFLUX_TEST_BACKEND=CUDA0 runs the same parity tests on a GPU. @default the CPU */
export const onTestBackend: Pick<NetworkOptions, 'backend'> = { backend: process.env.GGFLUX_TEST_BACKEND ?? 'cpu' }
