#include "conv2d.hpp"

#include "choice.hpp"
#include "activations.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>

// The image is split into tiles of 4 rows of 72 pixels. A thread copies a tile with its border, for up to 64 input
// channels at a time, into its scratch memory. Then it adds what these channels give to the sums of the tile. A block of
// sums, some pixels x some vectors of output channels, stays in registers while the loop runs over input channels and
// taps; each step loads the weights of these output channels and broadcasts each pixel. Sums of the whole tile are kept
// in scratch memory, with the output channels of a block next to each other, and are stored in planes at the end. Each
// sum is in the order of input channels and taps, whatever these sizes are.

namespace ggflux::kernels {

namespace {

constexpr int64_t tile_w = 72, tile_h = 4, input_block = 64;
constexpr int64_t counter_floats = 16;

int64_t tile_floats(int64_t k) { return input_block * (tile_h + k - 1) * (tile_w + k - 1); }
// of a thread, for the tile and its sums
int64_t scratch_floats(int64_t k, int64_t out) { return tile_floats(k) + out * tile_h * tile_w; }

struct Conv {
    const float *x, *weight, *bias, *scales;
    float * y;
    int64_t w, h, in, out, k;  // w and h of the result
    int shift;                 // 1: x has half the width and height
    std::atomic<int64_t> * next_tile;
    const std::atomic<bool> * cancel;
};

#if defined(__GNUC__)

// Adds to a block of sums [pixels, vectors * lanes], which begin as `begin` [vectors * lanes] if it is not null. tile
// points to the first tap of the first pixel; taps [in * k * k, vectors * lanes]
template <int lanes, int vectors, int pixels, int k>
__attribute__((always_inline)) inline void block(const float * tile, int64_t tile_stride, int64_t channel_stride,
                                                 const float * taps, int64_t in, const float * begin, float * sums) {
    using Vec = typename Vector<lanes>::type;
    Vec sum[pixels][vectors];
    for (int p = 0; p < pixels; p++) {
        for (int v = 0; v < vectors; v++) {
            sum[p][v] = begin ? *reinterpret_cast<const Vec *>(begin + v * lanes)
                              : *reinterpret_cast<const Vec *>(sums + (p * vectors + v) * lanes);
        }
    }
    for (int64_t c = 0; c < in; c++, tile += channel_stride) {
        for (int ky = 0; ky < k; ky++) {
            // GCC must not keep pixels for the next tap: registers would run out
#pragma GCC unroll 1
            for (int kx = 0; kx < k; kx++, taps += vectors * lanes) {
                const float * row = tile + ky * tile_stride + kx;
                asm("" : "+r"(row));
                Vec weights[vectors];
                for (int v = 0; v < vectors; v++) weights[v] = *reinterpret_cast<const Vec *>(taps + v * lanes);
                for (int p = 0; p < pixels; p++) {
                    for (int v = 0; v < vectors; v++) sum[p][v] += weights[v] * row[p];
                }
            }
        }
    }
    for (int p = 0; p < pixels; p++) {
        for (int v = 0; v < vectors; v++) *reinterpret_cast<Vec *>(sums + (p * vectors + v) * lanes) = sum[p][v];
    }
}

// x -> silu(factor x + offset), in place
template <int lanes> __attribute__((always_inline)) inline void scale_and_silu(float * row, int64_t n, float factor,
                                                                               float offset) {
    using Vec = typename Vector<lanes>::type;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        Vec & x = *reinterpret_cast<Vec *>(row + i);
        x = scaled_silu<lanes>(x, factor, offset);
    }
    if (i == n) return;
    Vec x = {};
    std::memcpy(&x, row + i, static_cast<size_t>(n - i) * sizeof(float));
    x = scaled_silu<lanes>(x, factor, offset);
    std::memcpy(row + i, &x, static_cast<size_t>(n - i) * sizeof(float));
}

// Copies input channels `first` .. `last` of the tile at (x0, y0) with its border, with zeros outside the image:
// [last - first, tile_h + k - 1, tile_w + k - 1]
template <int lanes> __attribute__((always_inline)) inline void
copy_tile(const Conv & conv, int64_t first, int64_t last, int64_t x0, int64_t y0, float * tile) {
    const int64_t border = conv.k / 2, width = tile_w + conv.k - 1;
    const int64_t from = std::max<int64_t>(0, x0 - border), to = std::min(conv.w, x0 + tile_w + border);
    for (int64_t c = first; c < last; c++) {
        for (int64_t y = y0 - border; y < y0 + tile_h + border; y++, tile += width) {
            if (y < 0 || y >= conv.h) {
                std::memset(tile, 0, static_cast<size_t>(width) * sizeof(float));
                continue;
            }
            const int64_t left = from - (x0 - border), n = to - from;
            std::memset(tile, 0, static_cast<size_t>(left) * sizeof(float));
            const float * row = conv.x + (c * (conv.h >> conv.shift) + (y >> conv.shift)) * (conv.w >> conv.shift);
            if (conv.shift) {
                for (int64_t x = 0; x < n; x++) tile[left + x] = row[(from + x) >> 1];
            } else {
                std::memcpy(tile + left, row + from, static_cast<size_t>(n) * sizeof(float));
            }
            if (conv.scales) scale_and_silu<lanes>(tile + left, n, conv.scales[c], conv.scales[conv.in + c]);
            std::memset(tile + left + n, 0, static_cast<size_t>(width - left - n) * sizeof(float));
        }
    }
}

template <int lanes, int vectors, int pixels, int k>
__attribute__((always_inline)) inline void run(const Conv & conv, float * memory) {
    static_assert(tile_w % pixels == 0);
    constexpr int64_t channels = lanes * vectors;
    const int64_t columns = (conv.w + tile_w - 1) / tile_w, rows = (conv.h + tile_h - 1) / tile_h;
    const int64_t width = tile_w + k - 1, plane = width * (tile_h + k - 1);
    float *tile = memory, *sums = memory + tile_floats(k);  // [out / channels, tile_h, tile_w, channels]
    for (int64_t t;
         (t = conv.next_tile->fetch_add(1)) < rows * columns && !conv.cancel->load(std::memory_order_relaxed);) {
        const int64_t x0 = t % columns * tile_w, y0 = t / columns * tile_h;
        const int64_t w = std::min(tile_w, conv.w - x0), h = std::min(tile_h, conv.h - y0);
        for (int64_t c = 0; c < conv.in; c += input_block) {
            const int64_t in = std::min(input_block, conv.in - c);
            copy_tile<lanes>(conv, c, c + in, x0, y0, tile);
            for (int64_t o = 0; o < conv.out; o += channels) {
                const float * taps = conv.weight + (o * conv.in + c * channels) * k * k;
                float bias[channels] = {};
                std::memcpy(bias, conv.bias + o, static_cast<size_t>(std::min(channels, conv.out - o)) * sizeof(float));
                for (int64_t y = 0; y < h; y++) {
                    for (int64_t x = 0; x < w; x += pixels) {
                        block<lanes, vectors, pixels, k>(tile + y * width + x, width, plane, taps, in,
                                                         c == 0 ? bias : nullptr,
                                                         sums + (o * tile_h + y * channels) * tile_w + x * channels);
                    }
                }
            }
        }
        for (int64_t o = 0; o < conv.out; o++) {
            for (int64_t y = 0; y < h; y++) {
                const float * from = sums + (o / channels * tile_h + y) * tile_w * channels + o % channels;
                float * to = conv.y + (o * conv.h + y0 + y) * conv.w + x0;
                for (int64_t x = 0; x < w; x++) to[x] = from[x * channels];
            }
        }
    }
}

template <int lanes, int vectors, int pixels> __attribute__((always_inline)) inline void run(const Conv & conv,
                                                                                             float * memory) {
    if (conv.k == 3) run<lanes, vectors, pixels, 3>(conv, memory);
    else run<lanes, vectors, pixels, 1>(conv, memory);
}

struct Kernel {
    void (*run)(const Conv &, float * memory);
    int64_t channels;  // output channels that it computes at a time
};

#if defined(__x86_64__)
// 24 of 32 vector registers hold sums
__attribute__((target("avx512f,fma"))) void run_avx512(const Conv & conv, float * memory) {
    run<16, 2, 12>(conv, memory);
}
// 12 of 16
__attribute__((target("avx2,fma"))) void run_avx2(const Conv & conv, float * memory) { run<8, 2, 6>(conv, memory); }

Kernel find() {
    if (__builtin_cpu_supports("avx512f") && !chosen("avx2")) return {run_avx512, 32};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {run_avx2, 16};
    return {};
}
#elif defined(__aarch64__)
void run_neon(const Conv & conv, float * memory) { run<4, 4, 6>(conv, memory); }
Kernel find() { return {run_neon, 16}; }
#else
Kernel find() { return {}; }
#endif

#else
struct Kernel {
    void (*run)(const Conv &, float * memory);
    int64_t channels;
};
Kernel find() { return {}; }
#endif

const Kernel & kernel() {
    static const Kernel found = find();
    return found;
}

// output channels in whole blocks
int64_t padded(int64_t out) { return (out + kernel().channels - 1) / kernel().channels * kernel().channels; }

// weight [k, k, in, out] -> [channels, k * k * in, out / channels], for as many output channels as the kernel computes at
// a time, and with zeros after the last: the weights of a block are next to each other for each tap. After them is memory
// for `compute`, which is valid as long as this node: the index of the next free tile, and a tile with its sums for each
// thread.
void pack(ggml_tensor * packed, int ith, int nth, void *) {
    const ggml_tensor * weight = packed->src[0];
    const int64_t taps = weight->ne[0] * weight->ne[1] * weight->ne[2], out = weight->ne[3],
                  channels = kernel().channels;
    float * data = static_cast<float *>(packed->data);
    if (ith == 0) new (data + padded(out) * taps) std::atomic<int64_t>(0);
    for (int64_t first = ith * channels; first < out; first += nth * channels) {
        const float * from = static_cast<const float *>(weight->data) + first * taps;
        float * to = data + first * taps;
        for (int64_t t = 0; t < taps; t++) {
            for (int64_t o = 0; o < channels; o++) *to++ = first + o < out ? from[o * taps + t] : 0.0f;
        }
    }
}

// sources: x, packed weight, bias, and the scales if there are any
void compute(ggml_tensor * y, int ith, int, void * cancel) {
    const ggml_tensor *x = y->src[0], *packed = y->src[1], *weight = packed->src[0], *bias = y->src[2];
    float * taps = static_cast<float *>(packed->data);
    const int64_t k = weight->ne[0], in = weight->ne[2], out = padded(weight->ne[3]);
    float * memory = taps + out * in * k * k;
    kernel().run({static_cast<const float *>(x->data), taps, static_cast<const float *>(bias->data),
                  y->src[3] ? static_cast<const float *>(y->src[3]->data) : nullptr, static_cast<float *>(y->data),
                  y->ne[0], y->ne[1], in, y->ne[2], k, y->ne[0] > x->ne[0],
                  reinterpret_cast<std::atomic<int64_t> *>(memory), static_cast<const std::atomic<bool> *>(cancel)},
                 memory + counter_floats + ith * scratch_floats(k, out));
}

}  // namespace

bool conv2d_fits(const ggml_tensor * weight, const ggml_tensor * x, int stride, int pad) {
    const int64_t k = weight->ne[0];
    return kernel().run && !chosen("ggml") && stride == 1 && (k == 1 || k == 3) && weight->ne[1] == k && pad == k / 2 &&
           weight->ne[3] % 8 == 0 && weight->type == GGML_TYPE_F32 && x->type == GGML_TYPE_F32 &&
           ggml_is_contiguous(x) && x->ne[3] == 1;
}

ggml_tensor * conv2d(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x,
                     ggml_tensor * scales, bool upsample, int threads, const std::atomic<bool> * cancel) {
    const int64_t k = weight->ne[0], in = weight->ne[2], out = weight->ne[3];
    const int64_t floats = padded(out) * in * k * k + counter_floats + scratch_floats(k, padded(out)) * threads;
    ggml_tensor * packed = ggml_custom_4d(ctx, GGML_TYPE_F32, floats, 1, 1, 1, &weight, 1, pack, threads, nullptr);
    ggml_tensor * sources[] = {x, packed, bias, scales};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, x->ne[0] << upsample, x->ne[1] << upsample, out, 1, sources,
                          scales ? 4 : 3, compute, threads, const_cast<std::atomic<bool> *>(cancel));
}

}  // namespace ggflux::kernels
