// The parts that the networks are made of. A faster kernel for the linear layer, attention or convolution takes the place of one function.
#pragma once

#include "runtime/graph.hpp"
#include "weights/weights.hpp"

namespace ggflux {

// Long operations are done in parts, see blocks.cpp; this bounds the nodes that a graph has.
constexpr int max_parts = 16;
constexpr size_t linear_nodes = 4 * max_parts + 1, attention_nodes = 8 * max_parts;

// x [in, n] -> [out, n]
ggml_tensor * linear(Graph & g, const Linear & layer, ggml_tensor * x);
// of gelu(x) (the tanh form), or of `above` with gelu(x) below it in every column, which where a kernel reads them are never stored
ggml_tensor * linear_gelu(Graph & g, const Linear & layer, ggml_tensor * x, ggml_tensor * above = nullptr);

// without learned scale and shift
ggml_tensor * layer_norm(Graph & g, ggml_tensor * x, float eps);
ggml_tensor * layer_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps);
ggml_tensor * rms_norm(Graph & g, ggml_tensor * scale, ggml_tensor * x, float eps);

// (1 + scale) * x + shift; scale and shift are vectors as long as x's rows
ggml_tensor * modulate(Graph & g, ggml_tensor * x, ggml_tensor * shift, ggml_tensor * scale);

// x as the layer multiplies it: on CUDA in bfloat16, for layers that read the same x and may round
ggml_tensor * rounded(Graph & g, const Linear & layer, ggml_tensor * x);

// Whether activations beside this layer may be rounded to bfloat16.
bool may_round(const Graph & g, const Linear & layer);

// softmax(q k^T / sqrt(d)) v over all heads at once: q [d, heads, n], k and v [d, heads, m] -> [d * heads, n]. round: to bfloat16, where that is faster
ggml_tensor * attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, bool round);
// with the scores' factor `scale`, and bias [m, n, heads] added to them, or a causal mask
ggml_tensor * attention_with_bias(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale,
                                  ggml_tensor * bias);
ggml_tensor * causal_attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale);

// One axis of FLUX's rotary embedding: the `dims` elements of every head from `offset` on, in adjacent pairs. x [d, heads, n]
ggml_tensor * rope(Graph & g, ggml_tensor * x, ggml_tensor * positions, int offset, int dims, float theta);

// x [w, h, in] -> [w', h', out]; padding is `pad` on every side
ggml_tensor * conv2d(Graph & g, const Conv & conv, ggml_tensor * x, int stride, int pad);
// of x with each pixel repeated 2 x 2
ggml_tensor * upsample_conv2d(Graph & g, const Conv & conv, ggml_tensor * x);
// of silu(group_norm(x)), which where a kernel can do both is never stored; the kernel is 3 x 3, stride 1
ggml_tensor * norm_silu_conv2d(Graph & g, const Norm & norm, const Conv & conv, ggml_tensor * x, float eps);
// over 32 groups of channels; x [w, h, channels]
ggml_tensor * group_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps);

// a layer of rows `first` .. `first + count` of the output of `layer`
Linear rows(Graph & g, const Linear & layer, int64_t first, int64_t count);
// `count` vectors of equal length that lie one after the other in x [count * n]
std::vector<ggml_tensor *> chunk(Graph & g, ggml_tensor * x, int count);
// columns `first` .. `first + count` of x [width, n]; contiguous
ggml_tensor * columns(Graph & g, ggml_tensor * x, int64_t first, int64_t count);
// rows `first` .. `first + heads * d` of x [width, n], seen as [d, heads, n]
ggml_tensor * split_heads(Graph & g, ggml_tensor * x, int64_t first, int64_t d, int64_t heads);

}  // namespace ggflux
