// Convolution on the product of bfloat16, where the caller allows weights and pixels to be rounded: twice as fast as in F32 on AVX-512's BF16
// products, several times on AMX tiles.
#pragma once

#include <ggml.h>

#include <atomic>

namespace ggflux::kernels {

// Whether this machine and build have the kernel, and it suits: stride 1, 1 x 1 or 3 x 3, the picture's size kept. weight [k, k, in, out]
bool conv2d_bf16_fits(const ggml_tensor * weight, const ggml_tensor * x, int stride, int pad);

// x [w, h, in], weight [k, k, in, out], bias [out], all F32 and contiguous -> [w, h, out]. With scales [in, 2] (group_scales.hpp) it is
// silu(factor x + offset) that is convolved; with upsample, x with each pixel repeated 2 x 2, and the result is [2 w, 2 h, out]. Stops early once `cancel` is set.
ggml_tensor * conv2d_bf16(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x,
                          ggml_tensor * scales, bool upsample, int threads, const std::atomic<bool> * cancel);

}  // namespace ggflux::kernels
