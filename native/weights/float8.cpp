#include "float8.hpp"

#include <ggml.h>

#include <cmath>
#include <limits>

namespace ggflux {

namespace {

// A sign, 4 or 5 bits of exponent, and the mantissa. e4m3fn has no infinities and only one NaN, so the largest exponent
// also encodes numbers. e5m2 is the upper half of an F16.
float decode(Float8 type, uint8_t bits) {
    if (type == Float8::e5m2) return ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits << 8));
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
    const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                     : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    return bits >> 7 ? -size : size;
}

}  // namespace

void decode_float8(Float8 type, float scale, const uint8_t * from, size_t count, float * to) {
    float values[256];
    for (int bits = 0; bits < 256; bits++) values[bits] = decode(type, static_cast<uint8_t>(bits)) * scale;
    for (size_t i = 0; i < count; i++) to[i] = values[from[i]];
}

}  // namespace ggflux
