import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const dist = fileURLToPath(new URL('./dist/', import.meta.url))

export default defineConfig({
  // Tests name the sources and run the compiled files: what is tested is what is shipped, worker threads included.
  resolve: { alias: [{ find: /^(?:\.\.\/)+lib\/(.*)$/, replacement: `${dist}$1` }] },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
  },
})
