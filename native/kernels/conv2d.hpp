// Convolution on a CPU, in F32, for the shapes that the autoencoder uses: stride 1, kernel 1 x 1 or 3 x 3, an output as
// large as the input image, and a multiple of 8 output channels. ggml's own operation first copies every patch into a
// row, and that copying limits its speed.
#pragma once

#include <ggml.h>

#include <atomic>

namespace ggflux::kernels {

// Whether this machine and this build have the kernel, and it supports these shapes. weight [k, k, in, out]
bool conv2d_fits(const ggml_tensor * weight, const ggml_tensor * x, int stride, int pad);

// x [w, h, in], weight [k, k, in, out], bias [out], all F32 and contiguous -> [w, h, out]. With scales [in, 2]
// (group_scales.hpp), the input of the convolution is silu(factor x + offset). With upsample, each pixel of x is
// repeated 2 x 2, and the result is [2 w, 2 h, out]. Stops early once `cancel` is set.
ggml_tensor * conv2d(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x,
                     ggml_tensor * scales, bool upsample, int threads, const std::atomic<bool> * cancel);

}  // namespace ggflux::kernels
