import type { NetworkOptions } from '../../lib/nn.js'

/** The device that the native tests run on: GGFLUX_TEST_BACKEND=CUDA0 runs the same parity tests on a GPU. @default the CPU */
const backend = process.env.GGFLUX_TEST_BACKEND ?? 'cpu'

/**
 * One thread each, as several files of tests run at once: ggml's threads wait for each other without sleeping, so on a busy machine one is the fastest and
 * the steadiest.
 */
export const onTestBackend: Pick<NetworkOptions, 'backend' | 'threads'> = { backend, threads: 1 }

/** With the threads that a call has by default. */
export const onAllThreads: Pick<NetworkOptions, 'backend'> = { backend }
