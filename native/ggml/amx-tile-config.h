// Forced into ggml-cpu/amx/mmq.cpp by native/ggml.cmake, for g++ only.
//
// g++ 12's <amxtileintrin.h> writes _tile_loadconfig as an asm statement whose input operand is the first 8 bytes of the configuration.
// The instruction reads 64, so the optimiser may drop the stores to the other 56, and does. This one declares all 64.
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
