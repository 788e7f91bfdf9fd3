// How a row of weights is read, for each type: the 32 numbers starting at number k. ggml-common.h defines the formats.
// The comment at each type lists what a block of 32 or 256 numbers contains.
#pragma once

#include "bf16.hpp"

#include <ggml.h>

#if defined(GGFLUX_X86)

#define AVX2 __attribute__((target("avx2,fma,f16c")))

namespace ggflux::kernels {

AVX2 inline float half(const uint8_t * bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, 2);
    return _cvtsh_ss(bits);
}

AVX2 inline __m128i bytes16(const uint8_t * from) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)); }
AVX2 inline __m256i bytes32(const uint8_t * from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
}

// Scale and offset for 16 numbers.
struct Step {
    float scale, offset = 0;
};

// 32 numbers, each scale * byte + offset, with signed bytes. The first and the last 16 can have different scales and
// offsets.
struct Part {
    __m256i bytes;
    Step first, last;
};
AVX2 inline Part stretch(__m256i bytes, Step first, Step last) { return {bytes, first, last}; }
AVX2 inline Part stretch(__m256i bytes, Step step) { return {bytes, step, step}; }

// `count` bits of each byte, starting at bit `shift`
AVX2 inline __m256i bits(__m256i bytes, int shift, int count) {
    return _mm256_and_si256(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift)),
                            _mm256_set1_epi8(static_cast<char>((1 << count) - 1)));
}
// 16 bytes as nibbles: the low nibbles, then the high nibbles
AVX2 inline __m256i nibbles(const uint8_t * from) {
    const __m128i bytes = bytes16(from);
    return bits(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), 0, 4);
}
// all ones in each byte that has the bit
AVX2 inline __m256i has(__m256i bytes, __m256i bit) { return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit); }
AVX2 inline __m256i has(__m256i bytes, int bit) { return has(bytes, _mm256_set1_epi8(static_cast<char>(1 << bit))); }
// all ones in byte i if bit i of 32 is set
AVX2 inline __m256i mask32(const uint8_t * from) {
    int32_t mask;
    std::memcpy(&mask, from, 4);
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    return has(_mm256_shuffle_epi8(_mm256_set1_epi32(mask), byte_of),
               _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201)));
}
// adds 16 to each byte whose mask is set
AVX2 inline __m256i fifth(__m256i low, __m256i set) {
    return _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16)));
}
AVX2 inline __m256i less(__m256i bytes, char by) { return _mm256_sub_epi8(bytes, _mm256_set1_epi8(by)); }
// the 16 levels of the IQ4 types
AVX2 inline __m256i levels(__m256i nibbles) {
    const __m128i table = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

// ---- types without blocks

struct Halves {
    const uint8_t * data;
};  // 32 of them
struct RowF16 {
    const uint8_t * data;
    Halves operator()(int64_t k) const { return {data + 2 * k}; }
};
struct UpperHalves {
    const uint8_t * data;
};  // of F32
struct RowBF16 {
    const uint8_t * data;
    UpperHalves operator()(int64_t k) const { return {data + 2 * k}; }
};

// ---- blocks of 32

struct RowQ8_0 {  // scale, 32 signed bytes
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 34;
        return stretch(bytes32(block + 2), {half(block)});
    }
};
struct RowQ4_0 {  // scale, 32 nibbles minus 8
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 18;
        return stretch(less(nibbles(block + 2), 8), {half(block)});
    }
};
struct RowQ4_1 {  // scale, offset, 32 nibbles
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 20;
        return stretch(nibbles(block + 4), {half(block), half(block + 2)});
    }
};
struct RowQ5_0 {  // scale, 32 fifth bits, 32 nibbles; minus 16
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 22;
        return stretch(less(fifth(nibbles(block + 6), mask32(block + 2)), 16), {half(block)});
    }
};
struct RowQ5_1 {  // scale, offset, 32 fifth bits, 32 nibbles
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 24;
        return stretch(fifth(nibbles(block + 8), mask32(block + 4)), {half(block), half(block + 2)});
    }
};
struct RowIQ4_NL {  // scale, 32 nibbles
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 18;
        return stretch(levels(nibbles(block + 2)), {half(block)});
    }
};

// ---- blocks of 256: `part` is one of 8 parts of 32 numbers

// Q4_K and Q5_K: 8 scales and 8 offsets of 6 bits in 12 bytes, and a common scale and a common offset
AVX2 inline Step step_k4(const uint8_t * block, int part) {
    const uint8_t * s = block + 4;
    const int scale = part < 4 ? s[part] & 63 : (s[part + 4] & 15) | (s[part - 4] >> 6 << 4);
    const int offset = part < 4 ? s[part + 4] & 63 : (s[part + 4] >> 4) | (s[part] >> 6 << 4);
    return {half(block) * static_cast<float>(scale), -half(block + 2) * static_cast<float>(offset)};
}

// Steps; 32 bytes for every 64 numbers, low nibbles first.
struct RowQ4_K {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 144;
        const int part = static_cast<int>(k / 32 % 8);
        return stretch(bits(bytes32(block + 16 + part / 2 * 32), part % 2 * 4, 4), step_k4(block, part));
    }
};
// Steps; 32 bytes of fifth bits, one bit for each part; the rest as in Q4_K.
struct RowQ5_K {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 176;
        const int part = static_cast<int>(k / 32 % 8);
        const __m256i set = has(bytes32(block + 16), part);
        return stretch(fifth(bits(bytes32(block + 48 + part / 2 * 32), part % 2 * 4, 4), set), step_k4(block, part));
    }
};
// For every 128 numbers 64 bytes of low nibbles; for every 128 numbers 32 bytes of two high bits; 16 signed scales; a
// common scale; minus 32.
struct RowQ6_K {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 210;
        const int part = static_cast<int>(k / 32 % 8), side = part / 4, quarter = part % 4;
        const __m256i low = bits(bytes32(block + 64 * side + quarter % 2 * 32), quarter / 2 * 4, 4);
        const __m256i high = bits(bytes32(block + 128 + 32 * side), 2 * quarter, 2);
        const auto * scales = reinterpret_cast<const int8_t *>(block + 192 + 2 * part);
        const float all = half(block + 208);
        const __m256i both = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
        return stretch(less(both, 32), {all * static_cast<float>(scales[0])}, {all * static_cast<float>(scales[1])});
    }
};
// 32 bytes of third bits, one bit for each part; for every 128 numbers 32 bytes of two bits; 16 scales of 6 bits in 12
// bytes; a common scale.
struct RowQ3_K {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 110;
        const int part = static_cast<int>(k / 32 % 8);
        const __m256i set = has(bytes32(block), part);
        const __m256i low = bits(bytes32(block + 32 + part / 4 * 32), part % 4 * 2, 2);
        const float all = half(block + 108);
        const auto step = [&](int i) -> Step {
            const uint8_t * s = block + 96;
            return {all *
                    static_cast<float>(((s[i % 8] >> (i / 8 * 4) & 15) | (s[8 + i % 4] >> (i / 4 * 2) & 3) << 4) - 32)};
        };
        return stretch(_mm256_sub_epi8(low, _mm256_andnot_si256(set, _mm256_set1_epi8(4))), step(2 * part),
                       step(2 * part + 1));
    }
};
// 16 bytes of scale and offset, 4 bits each; for every 128 numbers 32 bytes of two bits; a common scale and a common
// offset.
struct RowQ2_K {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 84;
        const int part = static_cast<int>(k / 32 % 8);
        const float scale = half(block + 80), offset = half(block + 82);
        const auto step = [&](int i) -> Step {
            return {scale * static_cast<float>(block[i] & 15), -offset * static_cast<float>(block[i] >> 4)};
        };
        return stretch(bits(bytes32(block + 16 + part / 4 * 32), part % 4 * 2, 2), step(2 * part), step(2 * part + 1));
    }
};
// A common scale; 8 scales of 6 bits, minus 32, with the high bits first; nibbles as in the blocks of 32.
struct RowIQ4_XS {
    const uint8_t * data;
    AVX2 Part operator()(int64_t k) const {
        const uint8_t * block = data + k / 256 * 136;
        const int part = static_cast<int>(k / 32 % 8);
        const int high = (block[2] | block[3] << 8) >> (2 * part) & 3, low = block[4 + part / 2] >> (part % 2 * 4) & 15;
        return stretch(levels(nibbles(block + 8 + 16 * part)),
                       {half(block) * static_cast<float>((low | high << 4) - 32)});
    }
};

// ---- conversion to F32 and bfloat16

AVX2 inline void store(Halves halves, float * to) {
    for (int i = 0; i < 32; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(bytes16(halves.data + 2 * i)));
}
AVX2 inline void store(UpperHalves halves, float * to) {
    for (int i = 0; i < 32; i += 8) {
        const __m256i wide = _mm256_cvtepu16_epi32(bytes16(halves.data + 2 * i));
        _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
}

AVX2 inline void store(__m128i bytes, Step step, float * to) {
    const __m256 scale = _mm256_set1_ps(step.scale), offset = _mm256_set1_ps(step.offset);
    _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), scale, offset));
    _mm256_storeu_ps(
        to + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))), scale, offset));
}
AVX2 inline void store(const Part & part, float * to) {
    store(_mm256_castsi256_si128(part.bytes), part.first, to);
    store(_mm256_extracti128_si256(part.bytes, 1), part.last, to + 16);
}

// transposes 8 rows of 8 numbers
AVX2 inline void transpose(const float * from, int64_t stride, float * to, int64_t to_stride) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * stride);
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    const auto pairs = [](__m256 a, __m256 b, bool high) AVX2 {
        const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
        return _mm256_castpd_ps(high ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y));
    };
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 4; j++) r[i + j] = pairs(t[i + j / 2], t[i + j / 2 + 2], j % 2);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

AVX512BF16 inline __m512 numbers(__m128i bytes, Step step) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), _mm512_set1_ps(step.scale),
                           _mm512_set1_ps(step.offset));
}
AVX512BF16 inline bf16::Pairs round_pairs(Halves halves) {
    return bf16::round_pairs(_mm512_cvtph_ps(bytes32(halves.data)), _mm512_cvtph_ps(bytes32(halves.data + 32)));
}
AVX512BF16 inline bf16::Pairs round_pairs(UpperHalves halves) { return _mm512_loadu_si512(halves.data); }
AVX512BF16 inline bf16::Pairs round_pairs(const Part & part) {
    return bf16::round_pairs(numbers(_mm256_castsi256_si128(part.bytes), part.first),
                             numbers(_mm256_extracti128_si256(part.bytes, 1), part.last));
}

// Calls `found` with the reader for rows of this type, or calls `otherwise`.
template <class Found, class Otherwise> auto with_reader(ggml_type type, Found found, Otherwise otherwise) {
    switch (type) {
        case GGML_TYPE_F16: return found(RowF16{});
        case GGML_TYPE_BF16: return found(RowBF16{});
        case GGML_TYPE_Q8_0: return found(RowQ8_0{});
        case GGML_TYPE_Q4_0: return found(RowQ4_0{});
        case GGML_TYPE_Q4_1: return found(RowQ4_1{});
        case GGML_TYPE_Q5_0: return found(RowQ5_0{});
        case GGML_TYPE_Q5_1: return found(RowQ5_1{});
        case GGML_TYPE_Q2_K: return found(RowQ2_K{});
        case GGML_TYPE_Q3_K: return found(RowQ3_K{});
        case GGML_TYPE_Q4_K: return found(RowQ4_K{});
        case GGML_TYPE_Q5_K: return found(RowQ5_K{});
        case GGML_TYPE_Q6_K: return found(RowQ6_K{});
        case GGML_TYPE_IQ4_NL: return found(RowIQ4_NL{});
        case GGML_TYPE_IQ4_XS: return found(RowIQ4_XS{});
        default: return otherwise;
    }
}

}  // namespace ggflux::kernels

#endif
