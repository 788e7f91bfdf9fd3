// Group norm as one factor and one offset for each channel: what a convolution applies while it reads the picture, so that the normalised
// picture never exists.
#pragma once

#include <ggml.h>

namespace ggflux::kernels {

// x [w, h, channels], weight and bias [channels], all F32 and contiguous -> [channels, 2]: factors, then offsets
ggml_tensor * group_scales(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x, int groups,
                           float eps, int threads);

}  // namespace ggflux::kernels
