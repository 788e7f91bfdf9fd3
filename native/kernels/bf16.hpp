// Code that the bfloat16 kernels share: rounding and panels.
#pragma once

#include "choice.hpp"

#include <cstdint>
#include <cstring>

namespace ggflux::kernels { constexpr int64_t panel_rows = 16; }

#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 10)
#define GGFLUX_X86  // the compiler supports the instruction sets of our kernels

#include <immintrin.h>

namespace ggflux::kernels::bf16 {

#define AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,f16c,fma")))

inline bool machine_has_it() {
    static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                            !chosen("ggml") && !chosen("avx2");
    return has;
}

// A panel has 16 output rows: [k / 2][16 rows][2]. This is the layout that the product instruction uses: lane r gets
// two neighbours of row r.
// 32 numbers of a row as bfloat16, in order
using Pairs = __m512i;

AVX512BF16 inline Pairs round_pairs(__m512 first, __m512 second) {
    return reinterpret_cast<Pairs>(_mm512_cvtne2ps_pbh(second, first));
}

// The 32 numbers of a row, starting at number k
struct RowF32 {
    const float * data;
    AVX512BF16 Pairs operator()(int64_t k) const {
        return round_pairs(_mm512_loadu_ps(data + k), _mm512_loadu_ps(data + k + 16));
    }
};

// Transposes 16 vectors of 16 pairs
AVX512BF16 inline void transpose(Pairs r[16]) {
    Pairs t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 16; i += 8) {
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
    }
}

// Converts numbers 0 to count - 1 of 16 rows to a panel; count is a multiple of 32
template <class Row> AVX512BF16 inline void pack(const Row rows[16], int64_t count, uint16_t * panel) {
    for (int64_t k = 0; k < count; k += 32, panel += 32 * panel_rows) {
        Pairs r[16];
        for (int i = 0; i < 16; i++) r[i] = rows[i](k);
        transpose(r);
        for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + 32 * i, r[i]);
    }
}

}  // namespace ggflux::kernels::bf16

#endif
