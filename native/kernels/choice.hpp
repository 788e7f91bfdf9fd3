// The environment variable GGFLUX_KERNELS, for comparisons and tests. `ggml` disables our kernels. `avx2` disables
// kernels that need more than AVX2, and ggml's repacked formats, so that our kernel multiplies every type. `avx512`
// disables the kernel on AMX tiles. `tile-model` uses a model of the tiles in plain C++.
#pragma once

#include <cstdlib>
#include <cstring>

namespace ggflux::kernels {

inline bool chosen(const char * name) {
    static const char * choice = std::getenv("GGFLUX_KERNELS");
    return choice && std::strcmp(choice, name) == 0;
}

}  // namespace ggflux::kernels
