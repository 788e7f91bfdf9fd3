#include "linear.hpp"

#include "activations.hpp"
#include "product.hpp"
#include "rows.hpp"

#include <algorithm>
#include <new>

namespace ggflux::kernels {

namespace {

constexpr int64_t block_rows = 4 * panel_rows;  // rows that a thread unpacks at a time
constexpr int64_t counter_bytes = 64;           // shared by all threads: the index of the next free block

// Numbers k0 .. k0 + count of 16 rows of a weight, from `row` on
struct Rows {
    const ggml_tensor * weight;
    int64_t row, k0, count;

    const uint8_t * data(int i) const {
        const ggml_type type = weight->type;
        return static_cast<const uint8_t *>(weight->data) + (row + i) * static_cast<int64_t>(weight->nb[1]) +
               k0 / ggml_blck_size(type) * static_cast<int64_t>(ggml_type_size(type));
    }

    template <class Row> Row reader(int i) const { return {data(i)}; }

    // Row i in F32. F32 weights are used in place. ggml, which supports every type, decodes other types into `room`.
    const float * floats(int i, float * room) const {
        if (weight->type == GGML_TYPE_F32) return reinterpret_cast<const float *>(data(i));
        ggml_get_type_traits(weight->type)->to_float(data(i), room, count);
        return room;
    }
};

// How a layer is computed: the type of the numbers, the length of a block (four panels take a part of L2), and how rows
// and columns are converted to these numbers.

struct InF32 {
    using Number = float;
    using Multiplier = f32::Multiplier;
    using Unpack = void (*)(const Rows &, float * room, float * panel);
    static constexpr int64_t block_k = 512;

    static void unpack_any(const Rows & rows, float * room, float * panel) {
        const float * row[panel_rows];
        for (int i = 0; i < panel_rows; i++) row[i] = rows.floats(i, room + i * block_k);
        for (int64_t k = 0; k < rows.count; k++) {
            for (int i = 0; i < panel_rows; i++) *panel++ = row[i][k];
        }
    }

    static void read(const float * x, int64_t n, bool gelu, float * to) {
        if (gelu) f32::gelu(x, n, to);
        else std::copy(x, x + n, to);
    }

#if defined(GGFLUX_X86)
    template <class Row> AVX2 static void unpack(const Rows & rows, float * room, float * panel) {
        for (int i = 0; i < panel_rows; i++) {
            const Row row = rows.reader<Row>(i);
            for (int64_t k = 0; k < rows.count; k += 32) store(row(k), room + i * block_k + k);
        }
        for (int64_t k = 0; k < rows.count; k += 8, panel += 8 * panel_rows) {
            for (int i = 0; i < panel_rows; i += 8) transpose(room + i * block_k + k, block_k, panel + i, panel_rows);
        }
    }
    static Unpack unpack_of(ggml_type type) {
        return with_reader(type, [](auto row) -> Unpack { return unpack<decltype(row)>; }, unpack_any);
    }
#else
    static Unpack unpack_of(ggml_type) { return unpack_any; }
#endif
};

#if defined(GGFLUX_X86)

struct InBf16 {
    using Number = uint16_t;
    using Multiplier = bf16::Multiplier;
    using Unpack = void (*)(const Rows &, float * room, uint16_t * panel);
    static constexpr int64_t block_k = 2048;

    template <class Row> struct Rounded {
        Row row;
        AVX512BF16 bf16::Pairs operator()(int64_t k) const { return round_pairs(row(k)); }
    };
    template <class Row> AVX512BF16 static void unpack(const Rows & rows, float *, uint16_t * panel) {
        Rounded<Row> row[panel_rows];
        for (int i = 0; i < panel_rows; i++) row[i].row = rows.reader<Row>(i);
        bf16::pack(row, rows.count, panel);
    }
    AVX512BF16 static void unpack_any(const Rows & rows, float * room, uint16_t * panel) {
        bf16::RowF32 row[panel_rows];
        for (int i = 0; i < panel_rows; i++) row[i].data = rows.floats(i, room + i * block_k);
        bf16::pack(row, rows.count, panel);
    }
    static Unpack unpack_of(ggml_type type) {
        return with_reader(type, [](auto row) -> Unpack { return unpack<decltype(row)>; }, unpack_any);
    }

    AVX512BF16 static void read(const float * x, int64_t n, bool gelu, uint16_t * to) {
        for (int64_t k = 0; k < n; k += 32) {
            const __m512 first = _mm512_loadu_ps(x + k), second = _mm512_loadu_ps(x + k + 16);
            const bf16::Pairs pairs =
                gelu ? bf16::round_pairs((__m512) kernels::gelu<16>(first), (__m512) kernels::gelu<16>(second))
                     : bf16::round_pairs(first, second);
            _mm512_storeu_si512(to + k, pairs);
        }
    }
};

bool rounds(bool round) { return round && bf16::machine_has_it(); }

#else

using InBf16 = InF32;
bool rounds(bool) { return false; }

#endif

// The memory of one thread: the panels, and the rows of the panel that is being unpacked.
template <class In> constexpr int64_t scratch_bytes =
    block_rows * In::block_k * sizeof(typename In::Number) + panel_rows * In::block_k * sizeof(float);

// The memory after the activations. `compute` uses it. It is valid as long as this node.
template <class In> char * behind(const ggml_tensor * read, int64_t in, int64_t n) {
    return static_cast<char *>(read->data) + in * n * sizeof(typename In::Number);
}

const float * column(const ggml_tensor * x, int64_t c) {
    return reinterpret_cast<const float *>(static_cast<const char *>(x->data) + c * static_cast<int64_t>(x->nb[1]));
}

// sources: x [in, n] F32, and optionally the prefix rows, which are stored unchanged above x in each column -> numbers
template <class In, bool gelu> void read_activations(ggml_tensor * read, int ith, int nth, void *) {
    const ggml_tensor *x = read->src[0], *prefix_rows = read->src[1];
    const int64_t first = prefix_rows ? prefix_rows->ne[0] : 0, in = first + x->ne[0], n = x->ne[1];
    if (ith == 0) new (behind<In>(read, in, n)) std::atomic<int64_t>(0);
    for (int64_t c = ith; c < n; c += nth) {
        auto * to = static_cast<typename In::Number *>(read->data) + c * in;
        if (prefix_rows) In::read(column(prefix_rows, c), first, false, to);
        In::read(column(x, c), x->ne[0], gelu, to + first);
    }
}

// sources: weight, the converted activations, and the bias if there is one
template <class In> void compute(ggml_tensor * y, int ith, int, void * cancel) {
    using Number = typename In::Number;
    const ggml_tensor *weight = y->src[0], *read = y->src[1];
    const float * bias = y->src[2] ? static_cast<const float *>(y->src[2]->data) : nullptr;
    const auto * x = static_cast<const Number *>(read->data);
    const int64_t in = weight->ne[0], out = y->ne[0], n = y->ne[1];
    auto * next_block = reinterpret_cast<std::atomic<int64_t> *>(behind<In>(read, in, n));
    auto * panels = reinterpret_cast<Number *>(behind<In>(read, in, n) + counter_bytes + ith * scratch_bytes<In>);
    auto * room = reinterpret_cast<float *>(panels + block_rows * In::block_k);
    const auto unpack = In::unpack_of(weight->type);
    const typename In::Multiplier multiply;
    for (int64_t first; (first = next_block->fetch_add(1) * block_rows) < out &&
                        !static_cast<const std::atomic<bool> *>(cancel)->load(std::memory_order_relaxed);) {
        const int64_t rows = std::min(block_rows, out - first);
        for (int64_t k0 = 0; k0 < in; k0 += In::block_k) {
            const int64_t count = std::min(In::block_k, in - k0), stride = panel_rows * count;
            for (int64_t r = 0; r < rows; r += panel_rows)
                unpack({weight, first + r, k0, count}, room, panels + r / panel_rows * stride);
            multiply({panels, stride, x + k0, in, static_cast<float *>(y->data) + first, out, n, count,
                      bias ? bias + first : nullptr, k0 > 0},
                     rows);
        }
    }
}

template <class In> ggml_tensor * layer(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias,
                                        const Activations & a, int threads, void * cancel) {
    const int64_t in = weight->ne[0], n = a.x->ne[1];
    ggml_tensor * columns[] = {a.x, a.prefix_rows};
    const int64_t bytes = in * n * sizeof(typename In::Number) + counter_bytes + scratch_bytes<In> * threads;
    ggml_tensor * read =
        ggml_custom_4d(ctx, GGML_TYPE_I8, bytes, 1, 1, 1, columns, a.prefix_rows ? 2 : 1,
                       a.gelu ? read_activations<In, true> : read_activations<In, false>, threads, nullptr);
    ggml_tensor * sources[] = {weight, read, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, weight->ne[1], n, 1, 1, sources, bias ? 3 : 2, compute<In>, threads,
                          cancel);
}

}  // namespace

bool linear_suits(ggml_type type, int64_t in, int64_t out, bool round) {
    const bool readable = type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float;
    return (rounds(round) || f32::machine_has_it()) && readable &&
           in % std::max<int64_t>(32, ggml_blck_size(type)) == 0 && out % panel_rows == 0;
}

bool linear_beats_repacking() { return rounds(true) || chosen("avx2"); }

ggml_tensor * linear(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, const Activations & a, bool round,
                     int threads, const std::atomic<bool> * cancel) {
    auto * flag = const_cast<std::atomic<bool> *>(cancel);
    return rounds(round) ? layer<InBf16>(ctx, weight, bias, a, threads, flag)
                         : layer<InF32>(ctx, weight, bias, a, threads, flag);
}

}  // namespace ggflux::kernels
