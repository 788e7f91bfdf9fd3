import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const dist = fileURLToPath(new URL('./dist/', import.meta.url))

/** The files that take minutes come first, so that none of them is left over when the others are done. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const long = ({ moduleId }: TestSpecification) =>
      /\/platforms\/|\/e2e\/(tiny-|cli|package|web-page)|\/server\/(load|a1111)|lavapipe/.test(moduleId)
    return [...sorted.filter(long), ...sorted.filter((file) => !long(file))]
  }
}

export default defineConfig({
  // Tests name the sources and run the compiled files: what is tested is what is shipped, worker threads included.
  resolve: { alias: [{ find: /^(?:\.\.\/)+lib\/(.*)$/, replacement: `${dist}$1` }] },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // by default one fewer, which on two cores is half of them
    maxWorkers: '100%',
    sequence: { sequencer: LongestFirst },
  },
})
