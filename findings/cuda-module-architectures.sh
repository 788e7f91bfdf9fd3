#!/usr/bin/env bash
# @node-llama-cpp/linux-x64-cuda 3.22.1: no machine code for data-centre GPUs in libggml-cuda.so.
#
# A prebuilt CUDA module of 159 MB seems to hold code for every current GPU. It holds machine code for compute capability 8.6, 8.9, 12.0 and 12.1 only.
# For 7.5, 8.0 and 9.0 (RTX 20, T4, A100, H100, H200) it holds PTX. The driver compiles that at first use, in 143 pieces, and keeps the
# result in the user's cache. So the first image on such a GPU waits for a compiler, and in a container without that cache every start does.
# This follows ggml's own default: its CMake file lists 75-virtual, 80-virtual, 86-real, 89-real, 90-virtual, 120a-real, 121a-real for CUDA 13.
#
# Output seen:
#   machine code 86: 143
#   machine code 89: 143
#   machine code 120: 143
#   machine code 121: 143
#   PTX 75: 143
#   PTX 80: 143
#   PTX 90: 143
set -euo pipefail
cd "$(mktemp -d)"
npm pack --silent @node-llama-cpp/linux-x64-cuda@3.22.1 > /dev/null
tar xzf ./*.tgz package/bins/linux-x64-cuda/libggml-cuda.so
cat > read.mjs <<'JS'
import { readFileSync } from 'node:fs'
// A fat binary: magic, version, header size, body size; then entries of kind (1 PTX, 2 ELF), header size, size, architecture.
const file = readFileSync('package/bins/linux-x64-cuda/libggml-cuda.so')
const counts = new Map()
for (let at = file.indexOf('50ed55ba', 0, 'hex'); at >= 0; at = file.indexOf('50ed55ba', at + 4, 'hex')) {
  if (file.readUInt16LE(at + 6) !== 16) continue
  const end = at + 16 + Number(file.readBigUInt64LE(at + 8))
  for (let entry = at + 16; entry < end; ) {
    const kind = { 1: 'PTX', 2: 'machine code' }[file.readUInt16LE(entry)]
    if (!kind) break
    const name = `${kind} ${file.readUInt32LE(entry + 28)}`
    counts.set(name, (counts.get(name) ?? 0) + 1)
    entry += file.readUInt32LE(entry + 4) + Number(file.readBigUInt64LE(entry + 8))
  }
}
for (const [name, count] of [...counts].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))) console.log(`${name}: ${count}`)
JS
node read.mjs | tee seen.txt
diff seen.txt - <<'SEEN'
machine code 86: 143
machine code 89: 143
machine code 120: 143
machine code 121: 143
PTX 75: 143
PTX 80: 143
PTX 90: 143
SEEN
