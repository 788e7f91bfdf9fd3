#pragma once

#include <cstddef>
#include <cstdint>

namespace ggflux {

// 8-bit types that ggml does not have.
enum class Float8 { none, e4m3fn, e5m2 };

void decode_float8(Float8 type, float scale, const uint8_t * from, size_t count, float * to);

}  // namespace ggflux
