#include "conv2d.hpp"

#include "choice.hpp"
#include "activations.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>

// The image is split into tiles of 4 rows of 64 pixels. A thread copies a tile with its border, for all input channels,
// into its scratch memory (in L2). Then it computes the output of the tile, 8 channels at a time. 8 x (1 or 2 vectors)
// of sums stay in registers while the loop runs over input channels and taps. Each tap takes one unaligned load per
// vector of pixels and one broadcast per output channel.

namespace ggflux::kernels {

namespace {

constexpr int64_t tile_w = 64, tile_h = 4, channel_block = 8;
constexpr int64_t counter_floats = 16;

int64_t scratch_floats(int64_t in, int64_t k) { return in * (tile_h + k - 1) * (tile_w + k - 1); }

struct Conv {
    const float *x, *weight, *bias, *scales;
    float * y;
    int64_t w, h, in, out, k;  // w and h of the result
    int shift;                 // 1: x has half the width and height
    std::atomic<int64_t> * next_tile;
    const std::atomic<bool> * cancel;
};

#if defined(__GNUC__)

// One block of output: 8 channels of `vectors * lanes` pixels of one row. tile points to the first tap of the row;
// taps [in * k * k, 8]
template <int lanes, int vectors, int k>
__attribute__((always_inline)) inline void block(const float * tile, int64_t tile_stride, int64_t channel_stride,
                                                 const float * taps, int64_t in, const float * bias, float * y,
                                                 int64_t plane, int64_t count) {
    using Vec = typename Vector<lanes>::type;
    Vec sum[channel_block][vectors];
    for (int o = 0; o < channel_block; o++) {
        for (int v = 0; v < vectors; v++) sum[o][v] = Vec{} + bias[o];
    }
    for (int64_t c = 0; c < in; c++, tile += channel_stride) {
        for (int ky = 0; ky < k; ky++) {
            for (int kx = 0; kx < k; kx++, taps += channel_block) {
                const float * row = tile + ky * tile_stride + kx;
                Vec pixels[vectors];
                for (int v = 0; v < vectors; v++) pixels[v] = *reinterpret_cast<const Vec *>(row + v * lanes);
                for (int o = 0; o < channel_block; o++) {
                    for (int v = 0; v < vectors; v++) sum[o][v] += pixels[v] * taps[o];
                }
            }
        }
    }
    if (count >= lanes * vectors) {
        for (int o = 0; o < channel_block; o++) {
            for (int v = 0; v < vectors; v++) *reinterpret_cast<Vec *>(y + o * plane + v * lanes) = sum[o][v];
        }
    } else {
        for (int o = 0; o < channel_block; o++)
            std::memcpy(y + o * plane, sum[o], static_cast<size_t>(count) * sizeof(float));
    }
}

// x -> silu(factor x + offset), in place
template <int lanes> __attribute__((always_inline)) inline void scale_and_silu(float * row, int64_t n, float factor,
                                                                               float offset) {
    using Vec = typename Vector<lanes>::type;
    for (int64_t i = 0; i < n; i += lanes) {
        const size_t bytes = static_cast<size_t>(std::min<int64_t>(lanes, n - i)) * sizeof(float);
        Vec x = {};
        std::memcpy(&x, row + i, bytes);
        x = scaled_silu<lanes>(x, factor, offset);
        std::memcpy(row + i, &x, bytes);
    }
}

// Copies the tile at (x0, y0) with its border, with zeros outside the image: [in, tile_h + k - 1, tile_w + k - 1]
template <int lanes> __attribute__((always_inline)) inline void copy_tile(const Conv & conv, int64_t x0, int64_t y0,
                                                                          float * tile) {
    const int64_t border = conv.k / 2, width = tile_w + conv.k - 1;
    const int64_t from = std::max<int64_t>(0, x0 - border), to = std::min(conv.w, x0 + tile_w + border);
    for (int64_t c = 0; c < conv.in; c++) {
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

template <int lanes, int vectors, int k> __attribute__((always_inline)) inline void run(const Conv & conv,
                                                                                        float * tile) {
    const int64_t columns = (conv.w + tile_w - 1) / tile_w, rows = (conv.h + tile_h - 1) / tile_h;
    const int64_t width = tile_w + k - 1, channel = width * (tile_h + k - 1), plane = conv.w * conv.h;
    for (int64_t t;
         (t = conv.next_tile->fetch_add(1)) < rows * columns && !conv.cancel->load(std::memory_order_relaxed);) {
        const int64_t x0 = t % columns * tile_w, y0 = t / columns * tile_h;
        const int64_t w = std::min(tile_w, conv.w - x0), h = std::min(tile_h, conv.h - y0);
        copy_tile<lanes>(conv, x0, y0, tile);
        for (int64_t o = 0; o < conv.out; o += channel_block) {
            const float * taps = conv.weight + o * conv.in * k * k;
            for (int64_t y = 0; y < h; y++) {
                for (int64_t x = 0; x < w; x += lanes * vectors) {
                    block<lanes, vectors, k>(tile + y * width + x, width, channel, taps, conv.in, conv.bias + o,
                                             conv.y + o * plane + (y0 + y) * conv.w + x0 + x, plane, w - x);
                }
            }
        }
    }
}

template <int lanes, int vectors> __attribute__((always_inline)) inline void run(const Conv & conv, float * tile) {
    if (conv.k == 3) run<lanes, vectors, 3>(conv, tile);
    else run<lanes, vectors, 1>(conv, tile);
}

using Run = void (*)(const Conv &, float *);

#if defined(__x86_64__)
__attribute__((target("avx512f,fma"))) void run_avx512(const Conv & conv, float * tile) { run<16, 2>(conv, tile); }
__attribute__((target("avx2,fma"))) void run_avx2(const Conv & conv, float * tile) { run<8, 1>(conv, tile); }

Run best() {
    if (__builtin_cpu_supports("avx512f") && !chosen("avx2")) return run_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return run_avx2;
    return nullptr;
}
#elif defined(__aarch64__)
void run_neon(const Conv & conv, float * tile) { run<4, 2>(conv, tile); }
Run best() { return run_neon; }
#else
Run best() { return nullptr; }
#endif

#else
using Run = void (*)(const Conv &, float *);
Run best() { return nullptr; }
#endif

// weight [k, k, in, out] -> [8, k * k * in, out / 8], so that the weights of a block are next to each other for each
// tap. After them is memory for `compute`, which is valid as long as this node: the index of the next free tile, and a
// tile for each thread.
void pack(ggml_tensor * packed, int ith, int nth, void *) {
    const ggml_tensor * weight = packed->src[0];
    const int64_t taps = weight->ne[0] * weight->ne[1] * weight->ne[2], blocks = weight->ne[3] / channel_block;
    if (ith == 0) new (static_cast<float *>(packed->data) + ggml_nelements(weight)) std::atomic<int64_t>(0);
    for (int64_t b = ith; b < blocks; b += nth) {
        const float * from = static_cast<const float *>(weight->data) + b * channel_block * taps;
        float * to = static_cast<float *>(packed->data) + b * channel_block * taps;
        for (int64_t t = 0; t < taps; t++) {
            for (int64_t o = 0; o < channel_block; o++) *to++ = from[o * taps + t];
        }
    }
}

// sources: x, packed weight, bias, and the scales if there are any
void compute(ggml_tensor * y, int ith, int, void * cancel) {
    const ggml_tensor *x = y->src[0], *packed = y->src[1], *weight = packed->src[0], *bias = y->src[2];
    float * taps = static_cast<float *>(packed->data);
    static const Run run = best();
    float * memory = taps + ggml_nelements(weight);
    run({static_cast<const float *>(x->data), taps, static_cast<const float *>(bias->data),
         y->src[3] ? static_cast<const float *>(y->src[3]->data) : nullptr, static_cast<float *>(y->data), y->ne[0],
         y->ne[1], x->ne[2], y->ne[2], weight->ne[0], y->ne[0] > x->ne[0],
         reinterpret_cast<std::atomic<int64_t> *>(memory), static_cast<const std::atomic<bool> *>(cancel)},
        memory + counter_floats + ith * scratch_floats(x->ne[2], weight->ne[0]));
}

}  // namespace

bool conv2d_fits(const ggml_tensor * weight, const ggml_tensor * x, int stride, int pad) {
    const int64_t k = weight->ne[0];
    return best() && !chosen("ggml") && stride == 1 && (k == 1 || k == 3) && weight->ne[1] == k && pad == k / 2 &&
           weight->ne[3] % channel_block == 0 && weight->type == GGML_TYPE_F32 && x->type == GGML_TYPE_F32 &&
           ggml_is_contiguous(x) && x->ne[3] == 1;
}

ggml_tensor * conv2d(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x,
                     ggml_tensor * scales, bool upsample, int threads, const std::atomic<bool> * cancel) {
    const int64_t k = weight->ne[0], in = weight->ne[2], out = weight->ne[3];
    const int64_t floats = ggml_nelements(weight) + counter_floats + scratch_floats(in, k) * threads;
    ggml_tensor * packed = ggml_custom_4d(ctx, GGML_TYPE_F32, floats, 1, 1, 1, &weight, 1, pack, threads, nullptr);
    ggml_tensor * sources[] = {x, packed, bias, scales};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, x->ne[0] << upsample, x->ne[1] << upsample, out, 1, sources,
                          scales ? 4 : 3, compute, threads, const_cast<std::atomic<bool> *>(cancel));
}

}  // namespace ggflux::kernels
