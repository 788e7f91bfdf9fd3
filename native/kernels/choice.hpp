// The environment variable GGFLUX_KERNELS, to compare and to test: `ggml` switches our kernels off, `avx2` those that need more than AVX2 (and
// ggml's repacked formats, so that ours multiplies every type), `avx512` the one on AMX tiles, and `tile-model` takes a model of the tiles in plain C++.
#pragma once

#include <cstdlib>
#include <cstring>

namespace ggflux::kernels {

inline bool chosen(const char * name) {
    static const char * choice = std::getenv("GGFLUX_KERNELS");
    return choice && std::strcmp(choice, name) == 0;
}

}  // namespace ggflux::kernels
