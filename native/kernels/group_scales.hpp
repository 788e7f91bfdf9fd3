// Group norm as one factor and one offset for each channel. A convolution applies them while it reads the image, so the
// normalised image is never stored.
#pragma once

#include <ggml.h>

namespace ggflux::kernels {

// x [w, h, channels], weight and bias [channels], all F32 and contiguous -> [channels, 2]: factors, then offsets
ggml_tensor * group_scales(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x, int groups,
                           float eps, int threads);

}  // namespace ggflux::kernels
