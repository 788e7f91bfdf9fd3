import { defineConfig } from 'vite'

export default defineConfig({
  root: import.meta.dirname,
  // the page works under any path of a proxy
  base: './',
  build: {
    outDir: '../dist/page',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
})
