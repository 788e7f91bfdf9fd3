#include "linear.hpp"

#include "activations.hpp"
#include "product.hpp"
#include "rows.hpp"

#include <algorithm>
#include <new>

namespace ggflux::kernels {

#if defined(GGFLUX_BF16)

namespace {

using namespace bf16;

// What a thread unpacks at a time: 4 panels of 2048 numbers each, 256 KiB, a part of L2.
constexpr int64_t block_rows = 4 * panel_rows, block_k = 2048;

constexpr int64_t scratch_bytes = block_rows * block_k * 2;  // of each thread: the panels
constexpr int64_t counter_bytes = 64;                        // of all together: the next block that nobody has taken

struct Layer {
    const ggml_tensor * weight;
    const float * bias;
    const uint16_t * x;  // [n, in], bfloat16
    float * y;           // [n, out]
    int64_t in, out, n;
    std::atomic<int64_t> * next_block;
    const std::atomic<bool> * cancel;
};

// 16 rows from `row` on, numbers k0 .. k0 + count -> a panel
template <class Row> AVX512BF16 void unpack(const Layer & layer, int64_t row, int64_t k0, int64_t count, uint16_t * panel) {
    const ggml_type type = layer.weight->type;
    Row rows[16];
    for (int i = 0; i < 16; i++) {
        const uint8_t * data = static_cast<const uint8_t *>(layer.weight->data) + (row + i) * static_cast<int64_t>(layer.weight->nb[1]) +
                               k0 / ggml_blck_size(type) * static_cast<int64_t>(ggml_type_size(type));
        rows[i].data = reinterpret_cast<decltype(rows[i].data)>(data);
    }
    pack(rows, count, panel);
}

using Unpack = void (*)(const Layer &, int64_t row, int64_t k0, int64_t count, uint16_t * panel);

Unpack unpack_of(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32: return unpack<RowF32>;
        case GGML_TYPE_F16: return unpack<RowF16>;
        case GGML_TYPE_BF16: return unpack<RowBF16>;
        case GGML_TYPE_Q8_0: return unpack<RowQ8_0>;
        case GGML_TYPE_Q4_0: return unpack<RowQ4_0>;
        case GGML_TYPE_Q4_1: return unpack<RowQ4_1>;
        case GGML_TYPE_Q5_0: return unpack<RowQ5_0>;
        case GGML_TYPE_Q5_1: return unpack<RowQ5_1>;
        case GGML_TYPE_Q2_K: return unpack<RowQ2_K>;
        case GGML_TYPE_Q3_K: return unpack<RowQ3_K>;
        case GGML_TYPE_Q4_K: return unpack<RowQ4_K>;
        case GGML_TYPE_Q5_K: return unpack<RowQ5_K>;
        case GGML_TYPE_Q6_K: return unpack<RowQ6_K>;
        case GGML_TYPE_IQ4_NL: return unpack<RowIQ4_NL>;
        case GGML_TYPE_IQ4_XS: return unpack<RowIQ4_XS>;
        default: return nullptr;
    }
}

void run(const Layer & layer, char * scratch) {
    auto * panels = reinterpret_cast<uint16_t *>(scratch);
    const Unpack unpack_panel = unpack_of(layer.weight->type);
    const Multiplier multiply;
    for (int64_t first; (first = layer.next_block->fetch_add(1) * block_rows) < layer.out && !layer.cancel->load(std::memory_order_relaxed);) {
        const int64_t rows = std::min(block_rows, layer.out - first);
        for (int64_t k0 = 0; k0 < layer.in; k0 += block_k) {
            const int64_t count = std::min(block_k, layer.in - k0), stride = panel_rows * count;
            for (int64_t r = 0; r < rows; r += panel_rows) unpack_panel(layer, first + r, k0, count, panels + r / panel_rows * stride);
            multiply({panels, stride, layer.x + k0, layer.in, layer.y + first, layer.out, layer.n, count, layer.bias ? layer.bias + first : nullptr, k0 > 0}, rows);
        }
    }
}

// What lies behind the rounded activations: memory for `compute`, which lives as long as this node does.
char * behind(const ggml_tensor * rounded, int64_t in, int64_t n) { return static_cast<char *>(rounded->data) + in * n * 2; }

// 32 numbers on their way to the product
struct AsTheyAre {
    AVX512BF16 static Pairs rounded(const float * x) { return RowF32{x}(0); }
};
struct WithGelu {
    AVX512BF16 static Pairs rounded(const float * x) {
        return round_pairs((__m512) gelu<16>(_mm512_loadu_ps(x)), (__m512) gelu<16>(_mm512_loadu_ps(x + 16)));
    }
};

const float * column(const ggml_tensor * x, int64_t c) { return reinterpret_cast<const float *>(static_cast<const char *>(x->data) + c * static_cast<int64_t>(x->nb[1])); }

// sources: x [in, n] F32, and what stands above it in every column as it is, where there is such -> bfloat16
template <class Activation> AVX512BF16 void round_activations(ggml_tensor * rounded, int ith, int nth, void *) {
    const ggml_tensor * x = rounded->src[0], * above = rounded->src[1];
    const int64_t first = above ? above->ne[0] : 0, in = first + x->ne[0], n = x->ne[1];
    if (ith == 0) new (behind(rounded, in, n)) std::atomic<int64_t>(0);
    for (int64_t c = ith; c < n; c += nth) {
        uint16_t * to = static_cast<uint16_t *>(rounded->data) + c * in;
        for (int64_t k = 0; k < first; k += 32) _mm512_storeu_si512(to + k, AsTheyAre::rounded(column(above, c) + k));
        for (int64_t k = 0; k < x->ne[0]; k += 32) _mm512_storeu_si512(to + first + k, Activation::rounded(column(x, c) + k));
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

}  // namespace

bool linear_suits(ggml_type type, int64_t in, int64_t out) {
    return machine_has_it() && unpack_of(type) && in % std::max<int64_t>(32, ggml_blck_size(type)) == 0 && out % panel_rows == 0;
}

ggml_tensor * linear(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, const Activations & a, int threads, const std::atomic<bool> * cancel) {
    const int64_t in = weight->ne[0], n = a.x->ne[1];
    ggml_tensor * read[] = {a.x, a.above};
    ggml_tensor * rounded = ggml_custom_4d(ctx, GGML_TYPE_I8, in * n * 2 + counter_bytes + scratch_bytes * threads, 1, 1, 1, read, a.above ? 2 : 1,
                                           a.gelu ? round_activations<WithGelu> : round_activations<AsTheyAre>, threads, nullptr);
    ggml_tensor * sources[] = {weight, rounded, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, weight->ne[1], n, 1, 1, sources, bias ? 3 : 2, compute, threads, const_cast<std::atomic<bool> *>(cancel));
}

#else

bool linear_suits(ggml_type, int64_t, int64_t) { return false; }
ggml_tensor * linear(ggml_context *, ggml_tensor *, ggml_tensor *, const Activations &, int, const std::atomic<bool> *) { return nullptr; }

#endif

}  // namespace ggflux::kernels
