// The linear layer. It unpacks weights of any type from the mapped file into panels in L2, and multiplies them there
// with sums in F32. All columns share the unpacking, so it costs little with hundreds of tokens. ggml's own products
// round activations to 8 bits and repeat the unpacking for every few columns.
#pragma once

#include <ggml.h>

#include <atomic>

namespace ggflux::kernels {

// Whether this machine and this build have the kernel, and it supports a weight of this type and shape. round: weights
// and activations may be rounded to bfloat16 if the machine can multiply bfloat16; otherwise all numbers are F32.
bool linear_suits(ggml_type type, int64_t in, int64_t out, bool round);

// Whether the kernel is faster than ggml's product of repacked weights. In F32 it is slower if the processor can
// multiply bytes.
bool linear_beats_repacking();

// The columns that a layer reads: x [in, n] or gelu(x). With `prefix_rows` [m, n], each column is `prefix_rows`
// followed by x [in - m, n]. All are F32, the numbers of a column are contiguous, and m is a multiple of 32.
struct Activations {
    ggml_tensor * x;
    bool gelu = false;
    ggml_tensor * prefix_rows = nullptr;
};

// weight [in, out] in host memory, bias [out] F32 or null -> [out, n]. Stops early once `cancel` is set.
ggml_tensor * linear(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, const Activations & activations,
                     bool round, int threads, const std::atomic<bool> * cancel);

}  // namespace ggflux::kernels
