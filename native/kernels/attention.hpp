// Attention on CPUs with AVX-512's BF16 products. Queries, keys, values and probabilities are rounded to bfloat16.
// Scores and sums stay in F32. Keys and values are packed once for all queries. Then each block of queries loops over
// the keys, and its scores never leave the cache.
#pragma once

#include <ggml.h>

#include <atomic>

namespace ggflux::kernels {

// Whether this machine and this build have the kernel, and it supports heads of this size.
bool attention_suits(int64_t head_dim);

// softmax(q k^T / sqrt(d) + bias) v: q [d, heads, n], k and v [d, heads, m], F32, each column of d numbers contiguous
// -> [d * heads, n]. `bias` [t, t + 1], or null, is for the first t keys; its last row is for all queries from t on.
// Stops early once `cancel` is set.
ggml_tensor * attention(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * bias,
                        int threads, const std::atomic<bool> * cancel);

}  // namespace ggflux::kernels
