// Forced into ggml-cpu/amx/mmq.cpp by native/ggml/ggml.cmake, for g++ only.
//
// In g++ 12, <amxtileintrin.h> implements _tile_loadconfig as an asm statement whose input operand is the first 8 bytes
// of the configuration. The instruction reads 64 bytes, so the optimiser is allowed to drop the stores to the other 56,
// and does so. This version declares all 64.
#pragma once

#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

struct ggflux_tile_config {
    unsigned char bytes[64];
};

static inline void ggflux_tile_loadconfig(const void * config) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*static_cast<const ggflux_tile_config *>(config)));
}

#undef _tile_loadconfig
#define _tile_loadconfig(config) ggflux_tile_loadconfig(config)
#endif
