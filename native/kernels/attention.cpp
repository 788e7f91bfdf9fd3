#include "attention.hpp"

#include "product.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

namespace ggflux::kernels {

#if defined(GGFLUX_X86)

namespace {

using namespace bf16;

// The number of queries and keys in a block. The scores of a block (48 KiB) and its keys and values (64 KiB each, for
// heads of 128) fit in L2 together.
constexpr int64_t block_queries = 48, block_keys = 256;
constexpr int64_t counter_bytes = 64;  // the index of the next free block
constexpr float log2_e = 1.44269504f;  // the softmax uses powers of two

int64_t padded(int64_t keys) { return (keys + 31) / 32 * 32; }

// The scratch memory of a thread, for one block. All sizes are multiples of 64 bytes.
struct Scratch {
    uint16_t * q;     // [queries, d]
    float * scores;   // [queries, keys]
    uint16_t * p;     // [queries, keys], probabilities up to a factor
    float * sums;     // [queries, d], sums of values
    float * highest;  // [queries], highest score so far
    float * total;    // [queries], sum of the probabilities so far

    static int64_t bytes(int64_t d) { return block_queries * (d * (2 + 4) + block_keys * (4 + 2) + 2 * 4); }

    Scratch(char * memory, int64_t d) {
        const auto take = [&](int64_t bytes) { return std::exchange(memory, memory + block_queries * bytes); };
        q = reinterpret_cast<uint16_t *>(take(2 * d));
        scores = reinterpret_cast<float *>(take(4 * block_keys));
        p = reinterpret_cast<uint16_t *>(take(2 * block_keys));
        sums = reinterpret_cast<float *>(take(4 * d));
        highest = reinterpret_cast<float *>(take(4));
        total = reinterpret_cast<float *>(take(4));
    }
};

const float * column(const ggml_tensor * x, int64_t head, int64_t i) {
    return reinterpret_cast<const float *>(static_cast<const char *>(x->data) + head * static_cast<int64_t>(x->nb[1]) +
                                           i * static_cast<int64_t>(x->nb[2]));
}

// k [d, heads, m] -> [m / 16 panels][d / 2][16 keys][2] for each head. `soften` masks the missing keys.
AVX512BF16 void pack_keys(const ggml_tensor * k, int64_t head, uint16_t * panels) {
    const int64_t d = k->ne[0], m = k->ne[2];
    for (int64_t key = 0; key < padded(m); key += panel_rows, panels += panel_rows * d) {
        if (key >= m) {
            std::memset(panels, 0, static_cast<size_t>(panel_rows * d) * 2);
            continue;
        }
        RowF32 rows[16];
        for (int64_t i = 0; i < 16; i++) rows[i].data = column(k, head, std::min(key + i, m - 1));
        pack(rows, d, panels);
    }
}

// 16 numbers as bfloat16, each in 32 bits
AVX512BF16 inline __m512i rounded(const float * x) {
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x))));
}

// v [d, heads, m] -> [d / 16 panels][m / 2][16 channels][2 keys] for each head; missing keys are 0
AVX512BF16 void pack_values(const ggml_tensor * v, int64_t head, uint16_t * panels) {
    const int64_t d = v->ne[0], m = v->ne[2], stride = panel_rows * padded(m);
    for (int64_t key = 0; key < padded(m); key += 2, panels += 2 * panel_rows) {
        for (int64_t c = 0; c < d; c += panel_rows) {
            const __m512i even = key < m ? rounded(column(v, head, key) + c) : _mm512_setzero_si512();
            const __m512i odd = key + 1 < m ? rounded(column(v, head, key + 1) + c) : _mm512_setzero_si512();
            _mm512_storeu_si512(panels + c / panel_rows * stride, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
    }
}

// 2^x for x up to 0. x is split into a whole part and a fraction from -0.5 to 0.5. This polynomial (the Taylor series
// of ln 2 times the fraction) is accurate to 2e-7 there.
AVX512BF16 inline __m512 exp2_of(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-200.0f), x);  // this order of arguments preserves NaN
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(1.5403530e-4f), f, _mm512_set1_ps(1.3333558e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, whole);
}

// The online softmax (Milakov and Gimelshein 2018, as in FlashAttention). It turns the scores of one query, as powers
// of two, into probabilities relative to the highest score so far. Sums relative to a lower score are scaled down.
AVX512BF16 void soften(const Scratch & s, int64_t query, int64_t keys, int64_t d) {
    float * scores = s.scores + query * block_keys;
    for (int64_t i = keys; i < padded(keys); i++) scores[i] = -INFINITY;
    __m512 highest = _mm512_set1_ps(s.highest[query]);
    for (int64_t i = 0; i < padded(keys); i += 16) highest = _mm512_max_ps(highest, _mm512_loadu_ps(scores + i));
    const float before = s.highest[query], now = _mm512_reduce_max_ps(highest);
    const __m512 level = _mm512_set1_ps(now);
    __m512 total = _mm512_setzero_ps();
    for (int64_t i = 0; i < padded(keys); i += 32) {
        const __m512 first = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + i), level));
        const __m512 second = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + i + 16), level));
        total = _mm512_add_ps(total, _mm512_add_ps(first, second));
        _mm512_storeu_si512(s.p + query * block_keys + i, round_pairs(first, second));
    }
    const float shrink = std::exp2(before - now);
    s.highest[query] = now;
    s.total[query] = s.total[query] * shrink + _mm512_reduce_add_ps(total);
    if (shrink == 1.0f) return;
    float * sums = s.sums + query * d;
    for (int64_t c = 0; c < d; c += 16)
        _mm512_storeu_ps(sums + c, _mm512_mul_ps(_mm512_loadu_ps(sums + c), _mm512_set1_ps(shrink)));
}

// Adds the bias of one query to its scores for the keys from `key` on. bias [t, t + 1] or null
AVX512BF16 void add_bias(const ggml_tensor * bias, int64_t query, int64_t key, int64_t keys, float * scores) {
    if (!bias) return;
    const int64_t t = bias->ne[0];
    const float * row = static_cast<const float *>(bias->data) + std::min(query, t) * t;
    for (int64_t i = key; i < std::min(key + keys, t); i++) scores[i - key] += log2_e * row[i];
}

// Computes one head, for queries first .. first + n. Keys and values are packed.
AVX512BF16 void attend(const ggml_tensor * q, const uint16_t * k, const uint16_t * v, const ggml_tensor * bias,
                       int64_t keys, int64_t head, int64_t first, int64_t n, const Scratch & s,
                       const Multiplier & multiply, float * y, int64_t y_stride) {
    const int64_t d = q->ne[0], stride = panel_rows * padded(keys);
    const __m512 factor = _mm512_set1_ps(log2_e / std::sqrt(static_cast<float>(d)));
    for (int64_t i = 0; i < n; i++) {
        const float * from = column(q, head, first + i);
        for (int64_t c = 0; c < d; c += 32) {
            const Pairs pairs = round_pairs(_mm512_mul_ps(_mm512_loadu_ps(from + c), factor),
                                            _mm512_mul_ps(_mm512_loadu_ps(from + c + 16), factor));
            _mm512_storeu_si512(s.q + i * d + c, pairs);
        }
        s.highest[i] = -INFINITY;
        s.total[i] = 0;
    }
    std::memset(s.sums, 0, static_cast<size_t>(n * d) * sizeof(float));
    for (int64_t key = 0; key < keys; key += block_keys) {
        const int64_t count = std::min(block_keys, keys - key);
        multiply({k + key * d, panel_rows * d, s.q, d, s.scores, block_keys, n, d, nullptr, false}, padded(count));
        for (int64_t i = 0; i < n; i++) {
            add_bias(bias, first + i, key, count, s.scores + i * block_keys);
            soften(s, i, count, d);
        }
        multiply({v + key * panel_rows, stride, s.p, block_keys, s.sums, d, n, padded(count), nullptr, true}, d);
    }
    for (int64_t i = 0; i < n; i++) {
        const __m512 part = _mm512_set1_ps(1.0f / s.total[i]);
        for (int64_t c = 0; c < d; c += 16)
            _mm512_storeu_ps(y + i * y_stride + c, _mm512_mul_ps(_mm512_loadu_ps(s.sums + i * d + c), part));
    }
}

// The layout of the packed tensor: keys and values of each head, then the counter, then the scratch memory of each
// thread.
struct Memory {
    int64_t head_bytes, counter, scratch, scratch_bytes;
    Memory(int64_t d, int64_t heads, int64_t m)
        : head_bytes(2 * 2 * d * padded(m)), counter(heads * head_bytes), scratch(counter + counter_bytes),
          scratch_bytes(Scratch::bytes(d)) {}
};

// sources: k, v
void pack_heads(ggml_tensor * packed, int ith, int nth, void *) {
    const ggml_tensor *k = packed->src[0], *v = packed->src[1];
    const int64_t d = k->ne[0], heads = k->ne[1], m = k->ne[2];
    const Memory memory(d, heads, m);
    char * data = static_cast<char *>(packed->data);
    if (ith == 0) new (data + memory.counter) std::atomic<int64_t>(0);
    for (int64_t head = ith; head < heads; head += nth) {
        pack_keys(k, head, reinterpret_cast<uint16_t *>(data + head * memory.head_bytes));
        pack_values(v, head, reinterpret_cast<uint16_t *>(data + head * memory.head_bytes + memory.head_bytes / 2));
    }
}

// sources: q, packed, bias (or none)
void compute(ggml_tensor * y, int ith, int, void * cancel) {
    const ggml_tensor *q = y->src[0], *packed = y->src[1], *k = packed->src[0];
    const int64_t d = q->ne[0], heads = q->ne[1], n = q->ne[2], m = k->ne[2];
    const Memory memory(d, heads, m);
    char * data = static_cast<char *>(packed->data);
    auto & next = *reinterpret_cast<std::atomic<int64_t> *>(data + memory.counter);
    const Scratch scratch(data + memory.scratch + ith * memory.scratch_bytes, d);
    const Multiplier multiply;
    const int64_t blocks = (n + block_queries - 1) / block_queries;
    for (int64_t task; (task = next.fetch_add(1)) < heads * blocks &&
                       !static_cast<const std::atomic<bool> *>(cancel)->load(std::memory_order_relaxed);) {
        const int64_t head = task / blocks, first = task % blocks * block_queries;
        const auto * keys = reinterpret_cast<const uint16_t *>(data + head * memory.head_bytes);
        attend(q, keys, keys + memory.head_bytes / 4, y->src[2], m, head, first, std::min(block_queries, n - first),
               scratch, multiply, static_cast<float *>(y->data) + first * d * heads + head * d, d * heads);
    }
}

}  // namespace

bool attention_suits(int64_t head_dim) { return machine_has_it() && head_dim % 32 == 0; }

ggml_tensor * attention(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * bias,
                        int threads, const std::atomic<bool> * cancel) {
    const int64_t d = q->ne[0], heads = q->ne[1];
    const Memory memory(d, heads, k->ne[2]);
    ggml_tensor * kv[] = {k, v};
    ggml_tensor * packed = ggml_custom_4d(ctx, GGML_TYPE_I8, memory.scratch + threads * memory.scratch_bytes, 1, 1, 1,
                                          kv, 2, pack_heads, threads, nullptr);
    ggml_tensor * sources[] = {q, packed, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, d * heads, q->ne[2], 1, 1, sources, bias ? 3 : 2, compute, threads,
                          const_cast<std::atomic<bool> *>(cancel));
}

#else

bool attention_suits(int64_t) { return false; }
ggml_tensor * attention(ggml_context *, ggml_tensor *, ggml_tensor *, ggml_tensor *, ggml_tensor *, int,
                        const std::atomic<bool> *) {
    return nullptr;
}

#endif

}  // namespace ggflux::kernels
