#include "conv2d_bf16.hpp"

#include "product.hpp"
#include "activations.hpp"

#include <algorithm>
#include <new>

// The image is stored once with the channels last, rounded, with a border of zeros. The input of one row of taps at a
// pixel is then k * channels contiguous numbers. The input at the next pixel starts one pixel later. These are the
// columns of a product, and nothing has to be gathered. A 3 x 3 convolution is the sum of three products, one for each
// row of taps.

namespace ggflux::kernels {

#if defined(GGFLUX_X86)

namespace {

using namespace bf16;

constexpr int64_t tile_w = 48, tile_h = 4;      // pixels that a thread computes at a time
constexpr int64_t block_rows = 4 * panel_rows;  // output channels at a time: their panels stay in L2 for the tile
constexpr int64_t counter_bytes = 64;           // the index of the next free tile
constexpr int64_t scratch_bytes = tile_w * block_rows * 4;

int64_t padded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// The memory layout of the convolution. Channels are padded with zeros to whole chunks of a panel, and output channels
// to whole panels.
struct Shape {
    int64_t w, h, in, out, k, channels, panels, count;  // w and h of the result; count: numbers of one row of taps

    // shift: 1 if x has half the width and height
    Shape(const ggml_tensor * weight, const ggml_tensor * x, int shift)
        : w(x->ne[0] << shift), h(x->ne[1] << shift), in(weight->ne[2]), out(weight->ne[3]), k(weight->ne[0]),
          channels(padded(in, 32)), panels(padded(out, panel_rows) / panel_rows), count(k * channels) {}

    int64_t border() const { return k / 2; }
    int64_t line() const { return (w + 2 * border()) * channels; }
    int64_t image_bytes() const { return padded(line() * (h + 2 * border()) * 2, 64); }
    // The panel of one row of taps. The panels of the k rows are next to each other.
    int64_t panel() const { return panel_rows * count; }
    int64_t weight_bytes() const { return panels * k * panel() * 2; }
};

// Interleaves 16 neighbours of two channels -> 16 pairs
AVX512BF16 Pairs interleave(__m512 first, __m512 second) {
    static const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                                  22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, round_pairs(first, second));
}

// x [w, h, in] F32 -> [h + border, w + border, channels] bfloat16
AVX512BF16 void store_image(ggml_tensor * image, int ith, int nth, void * upsample) {
    const ggml_tensor *x = image->src[0], *weight = image->src[1];
    const int shift = upsample ? 1 : 0;
    const Shape s(weight, x, shift);
    const float * scales = image->src[2] ? static_cast<const float *>(image->src[2]->data) : nullptr;
    auto * to = static_cast<uint16_t *>(image->data);
    if (ith == 0) new (static_cast<char *>(image->data) + s.image_bytes()) std::atomic<int64_t>(0);
    const int64_t b = s.border();
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (int64_t line = ith; line < s.h + 2 * b; line += nth) {
        uint16_t * row = to + line * s.line();
        const int64_t y = line - b;
        if (y < 0 || y >= s.h) {
            std::memset(row, 0, s.line() * 2);
            continue;
        }
        std::memset(row, 0, b * s.channels * 2);
        std::memset(row + (s.w + b) * s.channels, 0, b * s.channels * 2);
        for (int64_t px = 0; px < s.w; px += 16) {
            const int64_t count = std::min<int64_t>(16, s.w - px);
            const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
            for (int64_t c = 0; c < s.channels; c += 32) {
                const auto plane = [&](int64_t channel) AVX512BF16 {
                    if (channel >= s.in) return _mm512_setzero_ps();
                    const float * from = static_cast<const float *>(x->data) +
                                         (channel * (s.h >> shift) + (y >> shift)) * (s.w >> shift) + (px >> shift);
                    const __m512 values =
                        shift ? _mm512_permutexvar_ps(
                                    twice, _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << (count / 2)) - 1), from))
                              : _mm512_maskz_loadu_ps(mask, from);
                    if (!scales) return values;
                    return (__m512) scaled_silu<16>(values, scales[channel], scales[s.in + channel]);
                };
                Pairs r[16];
                for (int i = 0; i < 16; i++) r[i] = interleave(plane(c + 2 * i), plane(c + 2 * i + 1));
                transpose(r);
                for (int64_t p = 0; p < count; p++) _mm512_storeu_si512(row + (px + p + b) * s.channels + c, r[p]);
            }
        }
    }
}

// weight [k, k, in, out] F32 -> [count / 2][16][2] bfloat16 for each panel of 16 output channels and each row of taps
AVX512BF16 void store_weights(ggml_tensor * packed, int ith, int nth, void *) {
    const ggml_tensor *weight = packed->src[0], *x = packed->src[1];
    const Shape s(weight, x, 0);
    for (int64_t p = ith; p < s.panels; p += nth) {
        for (int64_t dy = 0; dy < s.k; dy++) {
            uint16_t * panel = static_cast<uint16_t *>(packed->data) + (p * s.k + dy) * s.panel();
            for (int64_t dx = 0; dx < s.k; dx++) {
                for (int64_t c = 0; c < s.channels; c++) {
                    alignas(64) float rows[16] = {};
                    for (int64_t r = 0; r < 16 && c < s.in && p * 16 + r < s.out; r++) {
                        rows[r] =
                            static_cast<const float *>(weight->data)[(((p * 16 + r) * s.in + c) * s.k + dy) * s.k + dx];
                    }
                    alignas(32) uint16_t rounded[16];
                    _mm256_store_si256(reinterpret_cast<__m256i *>(rounded),
                                       reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_load_ps(rows))));
                    const int64_t n = dx * s.channels + c;
                    for (int64_t r = 0; r < 16; r++) panel[n / 2 * 32 + 2 * r + n % 2] = rounded[r];
                }
            }
        }
    }
}

// sums [count, block_rows] -> y [w, h, out]: output channels from `first` on, pixels of row `line` from `x0` on
AVX512BF16 void store_rows(const Shape & s, const float * sums, float * y, int64_t first, int64_t x0, int64_t line,
                           int64_t count) {
    for (int64_t o = first; o < std::min(first + block_rows, s.out); o += 16) {
        for (int64_t px = 0; px < count; px += 16) {
            const int64_t n = std::min<int64_t>(16, count - px);
            Pairs r[16];
            for (int64_t p = 0; p < 16; p++)
                r[p] = p < n ? _mm512_loadu_si512(sums + (px + p) * block_rows + o - first) : _mm512_setzero_si512();
            transpose(r);
            const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
            for (int64_t c = 0; c < std::min<int64_t>(16, s.out - o); c++) {
                _mm512_mask_storeu_epi32(y + ((o + c) * s.h + line) * s.w + x0 + px, mask, r[c]);
            }
        }
    }
}

// sources: image, packed weights, bias
void compute(ggml_tensor * y, int ith, int, void * cancel) {
    const ggml_tensor *image = y->src[0], *packed = y->src[1];
    const Shape s(packed->src[0], packed->src[1], y->ne[0] > packed->src[1]->ne[0]);
    const auto * pixels = static_cast<const uint16_t *>(image->data);
    const auto * panels = static_cast<const uint16_t *>(packed->data);
    char * memory = static_cast<char *>(image->data) + s.image_bytes();
    auto & next = *reinterpret_cast<std::atomic<int64_t> *>(memory);
    auto * sums = reinterpret_cast<float *>(memory + counter_bytes + ith * scratch_bytes);
    const float * bias = static_cast<const float *>(y->src[2]->data);
    const Multiplier multiply;

    const int64_t columns = (s.w + tile_w - 1) / tile_w, rows = (s.h + tile_h - 1) / tile_h;
    for (int64_t t; (t = next.fetch_add(1)) < rows * columns &&
                    !static_cast<const std::atomic<bool> *>(cancel)->load(std::memory_order_relaxed);) {
        const int64_t x0 = t % columns * tile_w, y0 = t / columns * tile_h;
        const int64_t n = std::min(tile_w, s.w - x0);
        for (int64_t first = 0; first < s.out; first += block_rows) {
            const int64_t outputs = std::min(block_rows, s.panels * panel_rows - first);
            alignas(64) float begin[block_rows] = {};
            std::memcpy(begin, bias + first, static_cast<size_t>(std::min(outputs, s.out - first)) * sizeof(float));
            for (int64_t line = y0; line < std::min(y0 + tile_h, s.h); line++) {
                for (int64_t dy = 0; dy < s.k; dy++) {
                    const uint16_t * panel = panels + (first / panel_rows * s.k + dy) * s.panel();
                    const uint16_t * x = pixels + (line + dy) * s.line() + x0 * s.channels;
                    multiply({panel, s.k * s.panel(), x, s.channels, sums, block_rows, n, s.count, begin, dy > 0},
                             outputs);
                }
                store_rows(s, sums, static_cast<float *>(y->data), first, x0, line, n);
            }
        }
    }
}

}  // namespace

bool conv2d_bf16_fits(const ggml_tensor * weight, const ggml_tensor * x, int stride, int pad) {
    const int64_t k = weight->ne[0];
    return machine_has_it() && stride == 1 && (k == 1 || k == 3) && weight->ne[1] == k && pad == k / 2 &&
           weight->type == GGML_TYPE_F32 && x->type == GGML_TYPE_F32 && ggml_is_contiguous(x) && x->ne[3] == 1;
}

ggml_tensor * conv2d_bf16(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x,
                          ggml_tensor * scales, bool upsample, int threads, const std::atomic<bool> * cancel) {
    const Shape s(weight, x, upsample);
    ggml_tensor *both[] = {x, weight, scales}, *turned[] = {weight, x};
    ggml_tensor * image =
        ggml_custom_4d(ctx, GGML_TYPE_I8, s.image_bytes() + counter_bytes + scratch_bytes * threads, 1, 1, 1, both,
                       scales ? 3 : 2, store_image, threads, reinterpret_cast<void *>(uintptr_t{upsample}));
    ggml_tensor * packed =
        ggml_custom_4d(ctx, GGML_TYPE_I8, s.weight_bytes(), 1, 1, 1, turned, 2, store_weights, threads, nullptr);
    ggml_tensor * sources[] = {image, packed, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, s.w, s.h, s.out, 1, sources, 3, compute, threads,
                          const_cast<std::atomic<bool> *>(cancel));
}

#else

bool conv2d_bf16_fits(const ggml_tensor *, const ggml_tensor *, int, int) { return false; }
ggml_tensor * conv2d_bf16(ggml_context *, ggml_tensor *, ggml_tensor *, ggml_tensor *, ggml_tensor *, bool, int,
                          const std::atomic<bool> *) {
    return nullptr;
}

#endif

}  // namespace ggflux::kernels
