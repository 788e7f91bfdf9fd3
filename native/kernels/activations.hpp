// Activation functions that the kernels apply to their input. They are inlined into kernels that declare their
// instruction set.
#pragma once

#include <cstdint>

namespace ggflux::kernels {

#if defined(__GNUC__)

template <int lanes> struct Vector {
    typedef float type __attribute__((vector_size(4 * lanes), aligned(4)));
};

// Cephes' expf, accurate to 2e-7 for all x that matter to the sigmoid
template <int lanes> __attribute__((always_inline)) inline typename Vector<lanes>::type
exponential(typename Vector<lanes>::type x) {
    using Vec = typename Vector<lanes>::type;
    typedef int32_t Ints __attribute__((vector_size(4 * lanes), aligned(4)));
    constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding this rounds to a whole number
    x = x > 87.0f ? Vec{} + 87.0f : x;
    x = x < -87.0f ? Vec{} - 87.0f : x;
    const Vec n = (x * 1.44269504f + round) - round;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = Vec{} + 1.9875691500e-4f;
    for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    return (p * r * r + r + 1.0f) * (Vec) power;
}

// silu(factor x + offset)
template <int lanes> __attribute__((always_inline)) inline typename Vector<lanes>::type
scaled_silu(typename Vector<lanes>::type x, float factor, float offset) {
    x = x * factor + offset;
    return x / (1.0f + exponential<lanes>(-x));
}

// the tanh form: 0.5 x (1 + tanh y), which equals x times the sigmoid of 2 y
template <int lanes> __attribute__((always_inline)) inline typename Vector<lanes>::type
gelu(typename Vector<lanes>::type x) {
    return x / (1.0f + exponential<lanes>(-1.5957691216f * (x + 0.044715f * x * x * x)));
}

#endif

}  // namespace ggflux::kernels
