// The building blocks of the networks. To use a faster kernel for the linear layer, attention or convolution, change
// the body of one function.
#pragma once

#include "runtime/graph.hpp"
#include "weights/weights.hpp"

namespace ggflux {

// Long operations are done in parts, see blocks.cpp. These are upper bounds for the nodes of a layer and of attention,
// without adapters.
constexpr int max_parts = 16;
constexpr size_t linear_nodes = 4 * max_parts + 1, attention_nodes = 32 * max_parts;

// wide: the input may exceed 65504, the largest number in half precision
enum class Range { usual, wide };

// x [in, n] -> [out, n]
ggml_tensor * linear(Graph & g, const Linear & layer, ggml_tensor * x, Range range = Range::usual);
// The layer applied to gelu(x) (the tanh form). With `prefix_rows`, each column consists of `prefix_rows` followed by
// gelu(x). If a kernel computes the layer, this input is never stored.
ggml_tensor * linear_gelu(Graph & g, const Linear & layer, ggml_tensor * x, ggml_tensor * prefix_rows = nullptr);

// without learned scale and shift
ggml_tensor * layer_norm(Graph & g, ggml_tensor * x, float eps);
ggml_tensor * layer_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps);
ggml_tensor * rms_norm(Graph & g, ggml_tensor * scale, ggml_tensor * x, float eps);

// (1 + scale) * x + shift. scale and shift are vectors that are as long as the rows of x.
ggml_tensor * modulate(Graph & g, ggml_tensor * x, ggml_tensor * shift, ggml_tensor * scale);

// x in the type that the layer multiplies: bfloat16 on CUDA, if the layer may round. Layers that read the same x share
// the result.
ggml_tensor * rounded(Graph & g, const Linear & layer, ggml_tensor * x);

// Whether the activations of this layer may be rounded to bfloat16.
bool may_round(const Graph & g, const Linear & layer);

// Numbers that are added to the scores of the first t keys. In the attention of text and image, t is the number of text
// tokens.
struct TextBias {
    ggml_tensor * rows;            // [t, t + 1], F32: a row for each of the first t queries, and one for all others
    ggml_tensor * mask = nullptr;  // the same for all keys and queries [m, n], made when an operation of ggml needs it
};

// softmax(q k^T / sqrt(d) + bias) v over all heads at once: q [d, heads, n], k and v [d, heads, m] -> [d * heads, n].
// round: rounds to bfloat16 if that is faster. bias: or null
ggml_tensor * attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, bool round,
                        TextBias * bias = nullptr);
// Scores are multiplied by `scale`. Then bias [m, n, heads] or a causal mask is added.
ggml_tensor * attention_with_bias(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale,
                                  ggml_tensor * bias);
ggml_tensor * causal_attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale);

// One axis of FLUX's rotary embedding. It rotates `dims` elements of each head, from `offset` on, in adjacent pairs.
// x [d, heads, n]
ggml_tensor * rope(Graph & g, ggml_tensor * x, ggml_tensor * positions, int offset, int dims, float theta);

// x [w, h, in] -> [w', h', out]; `pad` is the padding on each side
ggml_tensor * conv2d(Graph & g, const Conv & conv, ggml_tensor * x, int stride, int pad);
// the convolution of x with each pixel repeated 2 x 2
ggml_tensor * upsample_conv2d(Graph & g, const Conv & conv, ggml_tensor * x);
// The 3 x 3 convolution, with stride 1, of silu(group_norm(x)). If a kernel computes both, the normalised input is
// never stored.
ggml_tensor * norm_silu_conv2d(Graph & g, const Norm & norm, const Conv & conv, ggml_tensor * x, float eps);
// over 32 groups of channels; x [w, h, channels]
ggml_tensor * group_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps);

// a layer that computes only rows `first` .. `first + count` of the output of `layer`
Linear rows(Graph & g, const Linear & layer, int64_t first, int64_t count);
// splits x [count * n] into `count` vectors of equal length
std::vector<ggml_tensor *> chunk(Graph & g, ggml_tensor * x, int count);
// columns `first` .. `first + count` of x [width, n], contiguous
ggml_tensor * columns(Graph & g, ggml_tensor * x, int64_t first, int64_t count);
// a view of rows `first` .. `first + heads * d` of x [width, n], as [d, heads, n]
ggml_tensor * split_heads(Graph & g, ggml_tensor * x, int64_t first, int64_t d, int64_t heads);

}  // namespace ggflux
