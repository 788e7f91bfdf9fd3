#include "linear.hpp"

#include "choice.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 10)
#include <immintrin.h>
#define GGFLUX_BF16_LINEAR
#endif

namespace ggflux::kernels {

#if defined(GGFLUX_BF16_LINEAR)

namespace {

#define AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,f16c,fma")))

// A panel: 16 output rows, [k / 2][16 rows][2], as the product instruction takes them: lane r gets two neighbours of row r.
constexpr int64_t panel_rows = 16;
// What a thread unpacks at a time: 4 panels of 2048 numbers each, 256 KiB, a part of L2.
constexpr int64_t block_rows = 4 * panel_rows, block_k = 2048;
// Columns whose sums stay in registers, for two panels at a time: 24 sums.
constexpr int64_t tile_columns = 12;

constexpr int64_t scratch_bytes = block_rows * block_k * 2 + block_k * 4;  // of each thread: the panels, and one row in F32
constexpr int64_t counter_bytes = 64;                                      // of all together: the next block that nobody has taken

// 32 numbers of a row as bfloat16, in order
using Pairs = __m512i;

AVX512BF16 inline Pairs round_pairs(__m512 first, __m512 second) {
    return reinterpret_cast<Pairs>(_mm512_cvtne2ps_pbh(second, first));
}

AVX512BF16 inline Pairs scale_bytes(__m256i bytes, float d) {
    const __m512 scale = _mm512_set1_ps(d);
    const __m512 first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
    const __m512 second = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
    return round_pairs(_mm512_mul_ps(first, scale), _mm512_mul_ps(second, scale));
}

AVX512BF16 inline float half(const uint8_t * bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, 2);
    return _cvtsh_ss(bits);
}

// The 32 numbers of a row from number k on. Types with blocks of 32 are read where they lie, all others from the row in F32.
struct RowF32 {
    const float * data;
    AVX512BF16 Pairs operator()(int64_t k) const { return round_pairs(_mm512_loadu_ps(data + k), _mm512_loadu_ps(data + k + 16)); }
};
struct RowBF16 {
    const uint8_t * data;
    AVX512BF16 Pairs operator()(int64_t k) const { return _mm512_loadu_si512(data + 2 * k); }
};
struct RowQ8_0 {  // a half-precision scale, 32 signed bytes
    const uint8_t * data;
    AVX512BF16 Pairs operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 34;
        return scale_bytes(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(block + 2)), half(block));
    }
};
struct RowQ4_0 {  // a half-precision scale, 16 bytes: low halves are numbers 0 to 15, high halves 16 to 31, all plus 8
    const uint8_t * data;
    AVX512BF16 Pairs operator()(int64_t k) const {
        const uint8_t * block = data + k / 32 * 18;
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(block + 2));
        const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
        return scale_bytes(_mm256_sub_epi8(_mm256_and_si256(both, _mm256_set1_epi8(15)), _mm256_set1_epi8(8)), half(block));
    }
};

// 16 vectors of 16 pairs: rows become columns
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

struct Layer {
    const ggml_tensor * weight;
    const float * bias;
    const uint16_t * x;  // [n, in], bfloat16
    float * y;           // [n, out]
    int64_t in, out, n;
    std::atomic<int64_t> * next_block;
    const std::atomic<bool> * cancel;
};

// rows [16] of numbers k0 .. k0 + count -> a panel
template <class Row> AVX512BF16 void unpack(const Row rows[16], int64_t count, uint16_t * panel) {
    for (int64_t k = 0; k < count; k += 32, panel += 32 * panel_rows) {
        Pairs r[16];
        for (int i = 0; i < 16; i++) r[i] = rows[i](k);
        transpose(r);
        for (int i = 0; i < 16; i++) _mm512_storeu_si512(panel + 32 * i, r[i]);
    }
}

template <class Row> AVX512BF16 void unpack_bytes(const Layer & layer, int64_t row, int64_t k0, int64_t count, uint16_t * panel) {
    const ggml_type type = layer.weight->type;
    Row rows[16];
    for (int i = 0; i < 16; i++) {
        rows[i].data = static_cast<const uint8_t *>(layer.weight->data) + (row + i) * static_cast<int64_t>(layer.weight->nb[1]) +
                       k0 / ggml_blck_size(type) * static_cast<int64_t>(ggml_type_size(type));
    }
    unpack(rows, count, panel);
}

// Any other type: ggml unpacks a row at a time to F32; the pairs then go one by one to their places.
AVX512BF16 void unpack_any(const Layer & layer, int64_t row, int64_t k0, int64_t count, uint16_t * panel, float * values) {
    const ggml_type type = layer.weight->type;
    for (int i = 0; i < 16; i++) {
        const char * data = static_cast<const char *>(layer.weight->data) + (row + i) * static_cast<int64_t>(layer.weight->nb[1]);
        ggml_get_type_traits(type)->to_float(data + k0 / ggml_blck_size(type) * static_cast<int64_t>(ggml_type_size(type)), values, count);
        const RowF32 numbers{values};
        for (int64_t k = 0; k < count; k += 32) {
            alignas(64) uint32_t pairs[16];
            _mm512_store_si512(pairs, numbers(k));
            for (int p = 0; p < 16; p++) std::memcpy(panel + (k / 2 + p) * 2 * panel_rows + 2 * i, &pairs[p], 4);
        }
    }
}

AVX512BF16 void unpack_panel(const Layer & layer, int64_t row, int64_t k0, int64_t count, uint16_t * panel, float * values) {
    switch (layer.weight->type) {
        case GGML_TYPE_BF16: return unpack_bytes<RowBF16>(layer, row, k0, count, panel);
        case GGML_TYPE_Q8_0: return unpack_bytes<RowQ8_0>(layer, row, k0, count, panel);
        case GGML_TYPE_Q4_0: return unpack_bytes<RowQ4_0>(layer, row, k0, count, panel);
        default: return unpack_any(layer, row, k0, count, panel, values);
    }
}

// y[column][row ..] of `panels` panels by `columns` columns, over `count` numbers from k0 on; later parts of a row add to what is there
template <int panels, int columns>
AVX512BF16 void multiply(const Layer & layer, const uint16_t * panel, int64_t panel_stride, int64_t row, int64_t column, int64_t k0, int64_t count) {
    __m512 sum[columns][panels];
    float * y = layer.y + column * layer.out + row;
    for (int c = 0; c < columns; c++) {
        for (int p = 0; p < panels; p++) {
            sum[c][p] = k0 > 0       ? _mm512_loadu_ps(y + c * layer.out + p * panel_rows)
                        : layer.bias ? _mm512_loadu_ps(layer.bias + row + p * panel_rows)
                                     : _mm512_setzero_ps();
        }
    }
    const uint16_t * x = layer.x + column * layer.in + k0;
    for (int64_t k = 0; k < count; k += 2, panel += 2 * panel_rows) {
        __m512bh w[panels];
        for (int p = 0; p < panels; p++) w[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + p * panel_stride));
        for (int c = 0; c < columns; c++) {
            int32_t pair;
            std::memcpy(&pair, x + c * layer.in + k, 4);
            const __m512bh both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
            for (int p = 0; p < panels; p++) sum[c][p] = _mm512_dpbf16_ps(sum[c][p], w[p], both);
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int p = 0; p < panels; p++) _mm512_storeu_ps(y + c * layer.out + p * panel_rows, sum[c][p]);
    }
}

template <int panels> AVX512BF16 void multiply_all(const Layer & layer, const uint16_t * panel, int64_t panel_stride, int64_t row, int64_t k0, int64_t count) {
    int64_t column = 0;
    for (; column + tile_columns <= layer.n; column += tile_columns) multiply<panels, tile_columns>(layer, panel, panel_stride, row, column, k0, count);
    for (; column + 4 <= layer.n; column += 4) multiply<panels, 4>(layer, panel, panel_stride, row, column, k0, count);
    for (; column < layer.n; column++) multiply<panels, 1>(layer, panel, panel_stride, row, column, k0, count);
}

AVX512BF16 void run(const Layer & layer, char * scratch) {
    auto * panels = reinterpret_cast<uint16_t *>(scratch);
    auto * values = reinterpret_cast<float *>(scratch + block_rows * block_k * 2);
    for (int64_t first; (first = layer.next_block->fetch_add(1) * block_rows) < layer.out && !layer.cancel->load(std::memory_order_relaxed);) {
        const int64_t rows = std::min(block_rows, layer.out - first);
        for (int64_t k0 = 0; k0 < layer.in; k0 += block_k) {
            const int64_t count = std::min(block_k, layer.in - k0), stride = panel_rows * count;
            for (int64_t r = 0; r < rows; r += panel_rows) unpack_panel(layer, first + r, k0, count, panels + r / panel_rows * stride, values);
            int64_t r = 0;
            for (; r + 2 * panel_rows <= rows; r += 2 * panel_rows) multiply_all<2>(layer, panels + r / panel_rows * stride, stride, first + r, k0, count);
            for (; r < rows; r += panel_rows) multiply_all<1>(layer, panels + r / panel_rows * stride, stride, first + r, k0, count);
        }
    }
}

// What lies behind the rounded activations: memory for `compute`, which lives as long as this node does.
char * behind(const ggml_tensor * rounded, int64_t in, int64_t n) { return static_cast<char *>(rounded->data) + in * n * 2; }

// x [in, n] F32 -> bfloat16
AVX512BF16 void round_activations(ggml_tensor * rounded, int ith, int nth, void *) {
    const ggml_tensor * x = rounded->src[0];
    const int64_t in = x->ne[0];
    if (ith == 0) new (behind(rounded, in, x->ne[1])) std::atomic<int64_t>(0);
    for (int64_t c = ith; c < x->ne[1]; c += nth) {
        const RowF32 column{static_cast<const float *>(x->data) + c * in};
        for (int64_t k = 0; k < in; k += 32) _mm512_storeu_si512(static_cast<uint16_t *>(rounded->data) + c * in + k, column(k));
    }
}

// sources: weight, rounded activations, and the bias where there is one
void compute(ggml_tensor * y, int ith, int, void * cancel) {
    const ggml_tensor * weight = y->src[0], * rounded = y->src[1], * bias = y->src[2];
    const int64_t in = weight->ne[0], n = y->ne[1];
    char * memory = behind(rounded, in, n);
    run({weight, bias ? static_cast<const float *>(bias->data) : nullptr, static_cast<const uint16_t *>(rounded->data), static_cast<float *>(y->data), in,
         y->ne[0], n, reinterpret_cast<std::atomic<int64_t> *>(memory), static_cast<const std::atomic<bool> *>(cancel)},
        memory + counter_bytes + ith * scratch_bytes);
}

bool machine_has_it() {
    static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq") && !chosen("ggml") && !chosen("avx2");
    return has;
}

}  // namespace

bool linear_suits(ggml_type type, int64_t in, int64_t out) {
    const bool convertible = type == GGML_TYPE_BF16 || (ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float);
    return machine_has_it() && convertible && in % std::max<int64_t>(32, ggml_blck_size(type)) == 0 && out % panel_rows == 0;
}

ggml_tensor * linear(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x, int threads, const std::atomic<bool> * cancel) {
    const int64_t in = x->ne[0], n = x->ne[1];
    ggml_tensor * rounded = ggml_custom_4d(ctx, GGML_TYPE_I8, in * n * 2 + counter_bytes + scratch_bytes * threads, 1, 1, 1, &x, 1, round_activations, threads, nullptr);
    ggml_tensor * sources[] = {weight, rounded, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, weight->ne[1], n, 1, 1, sources, bias ? 3 : 2, compute, threads, const_cast<std::atomic<bool> *>(cancel));
}

#else

bool linear_suits(ggml_type, int64_t, int64_t) { return false; }
ggml_tensor * linear(ggml_context *, ggml_tensor *, ggml_tensor *, ggml_tensor *, int, const std::atomic<bool> *) { return nullptr; }

#endif

}  // namespace ggflux::kernels
