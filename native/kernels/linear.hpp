// The linear layer: weights are unpacked from any type, as they lie in the mapped file, into panels in L2, and multiplied there, summed in F32; the
// unpacking is shared by all columns, so it costs little beside hundreds of tokens. ggml's own products round activations to 8 bits and repeat that
// work for every few columns.
#pragma once

#include <ggml.h>

#include <atomic>

namespace ggflux::kernels {

// Whether this machine and build have the kernel, and it suits a weight of this type and shape. round: weights and activations may be rounded to
// bfloat16, where the machine multiplies that; else all is F32.
bool linear_suits(ggml_type type, int64_t in, int64_t out, bool round);

// Whether it is faster than what ggml repacks weights for. In F32 it is not, where the processor multiplies bytes.
bool linear_beats_repacking();

// The columns that a layer reads: x [in, n], or gelu(x); where there is `prefix_rows` [m, n], that and then x [in - m, n]. F32, the numbers of a column
// contiguous, m a multiple of 32.
struct Activations {
    ggml_tensor * x;
    bool gelu = false;
    ggml_tensor * prefix_rows = nullptr;
};

// weight [in, out] in host memory, bias [out] F32 or null -> [out, n]. Stops early once `cancel` is set.
ggml_tensor * linear(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, const Activations & activations,
                     bool round, int threads, const std::atomic<bool> * cancel);

}  // namespace ggflux::kernels
