#!/usr/bin/env bash
# @huggingface/gguf 0.4.6: parseGGUFQuantLabel does not know the types Q3_K, Q4_K and Q5_K in a file's name unless a size follows, as in Q4_K_S.
#
# Mixtures of llama.cpp have such a size. stable-diffusion.cpp makes files of one type, and they are named after it (leejet's flux1-schnell-q4_k.gguf). A
# program that lists a repository's types with this function leaves these files out, without an error, but shows q2_k, q6_k and q8_0 beside them.
set -euo pipefail
cd "$(mktemp -d)"
echo '{ "type": "module" }' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts @huggingface/gguf@0.4.6 > /dev/null
cat > check.mjs <<'JS'
import { parseGGUFQuantLabel } from '@huggingface/gguf'
for (const type of ['Q4_K_S', 'q4_k_s', 'q2_k', 'q3_k', 'q4_k', 'Q4_K', 'q5_k', 'q6_k', 'q8_0'])
  console.log(`flux1-schnell-${type}.gguf: ${parseGGUFQuantLabel(`flux1-schnell-${type}.gguf`)}`)
JS
node check.mjs | tee seen.txt
diff seen.txt - <<'SEEN'
flux1-schnell-Q4_K_S.gguf: Q4_K_S
flux1-schnell-q4_k_s.gguf: Q4_K_S
flux1-schnell-q2_k.gguf: Q2_K
flux1-schnell-q3_k.gguf: undefined
flux1-schnell-q4_k.gguf: undefined
flux1-schnell-Q4_K.gguf: undefined
flux1-schnell-q5_k.gguf: undefined
flux1-schnell-q6_k.gguf: Q6_K
flux1-schnell-q8_0.gguf: Q8_0
SEEN
