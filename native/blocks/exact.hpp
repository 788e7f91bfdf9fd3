// Marks an operation that must be computed in F32, not in TF32, on CUDA. The mark is the last of its parameters, which
// ggml uses in neither products nor convolutions.
#pragma once

#include <ggml.h>

namespace ggflux {

constexpr int exact_parameter = GGML_MAX_OP_PARAMS / sizeof(int32_t) - 1;

inline bool is_exact(const ggml_tensor * operation) { return operation->op_params[exact_parameter] != 0; }

inline ggml_tensor * exact(ggml_tensor * operation) {
    operation->op_params[exact_parameter] = 1;
    return operation;
}

}  // namespace ggflux
