// Sequences of elementwise operations of a transformer block, each computed in one pass over memory. ggml's CUDA module
// makes a pass for every operation, which takes as much time in FLUX.1 as its attention. This file is included into
// ggml-cuda.cu before ggml_cuda_try_fuse, see ggml-cuda-mended.cmake. Tensors are [width, rows] in F32, contiguous.
// Vectors have `width` numbers. Results are in F32 or bfloat16.
#pragma once

#include "convolution.cuh"

namespace ggflux {

// y = (x - mean) / sqrt(variance + eps) * factor + shift; one block per row
template <class T> static __global__ void norm_modulate(const float * x, const float * factor, const float * shift,
                                                        T * y, int width, float eps) {
    x += int64_t(blockIdx.x) * width;
    y += int64_t(blockIdx.x) * width;
    float sum = 0;
    for (int i = 4 * threadIdx.x; i < width; i += 4 * blockDim.x) {
        const float4 v = load4(x + i);
        sum += v.x + v.y + v.z + v.w;
    }
    const float mean = block_sum(sum) / width;
    float squares = 0;
    for (int i = 4 * threadIdx.x; i < width; i += 4 * blockDim.x) {
        const float4 v = load4(x + i);
        const float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
        squares += a * a + b * b + c * c + d * d;
    }
    const float scale = rsqrtf(block_sum(squares) / width + eps);
    for (int i = 4 * threadIdx.x; i < width; i += 4 * blockDim.x) {
        const float4 v = load4(x + i), f = load4(factor + i), s = load4(shift + i);
        store(y + i, {(v.x - mean) * scale * f.x + s.x, (v.y - mean) * scale * f.y + s.y,
                      (v.z - mean) * scale * f.z + s.z, (v.w - mean) * scale * f.w + s.w});
    }
}

static __device__ __forceinline__ float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(0.79788456080286535588f * x * (1.0f + 0.044715f * x * x)));
}

// y = gelu(x + bias), the tanh form
template <class T> static __global__ void bias_gelu(const float * x, const float * bias, T * y, int width) {
    const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= width) return;
    const int64_t at = int64_t(blockIdx.y) * width + i;
    const float4 v = load4(x + at), b = load4(bias + i);
    store(y + at, {gelu(v.x + b.x), gelu(v.y + b.y), gelu(v.z + b.z), gelu(v.w + b.w)});
}

// y = residual + (x + bias) * gate
static __global__ void bias_gate_add(const float * x, const float * bias, const float * gate, const float * residual,
                                     float * y, int width) {
    const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= width) return;
    const int64_t at = int64_t(blockIdx.y) * width + i;
    const float4 v = load4(x + at), b = load4(bias + i), g = load4(gate + i), r = load4(residual + at);
    store(y + at, {r.x + (v.x + b.x) * g.x, r.y + (v.y + b.y) * g.y, r.z + (v.z + b.z) * g.z, r.w + (v.w + b.w) * g.w});
}

struct Axis {
    const int32_t * positions;  // one for each token
    int offset, dims;           // elements of a head that are rotated, in adjacent pairs
    float log2_step;            // log2 of the ratio between the frequencies of two adjacent pairs
};

struct Axes {
    Axis axis[3];
    int count;
};

// RMS norm of every head, times `scale`, then the rotary embedding. x [d, heads, n] with strides; y contiguous; one
// warp for each head of a token
static __global__ void norm_rope(const float * x, const float * scale, float * y, int d, int heads, int rows,
                                 int64_t head_stride, int64_t token_stride, float eps, Axes axes) {
    const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const int head = row % heads, token = row / heads;
    x += head * head_stride + token * token_stride;
    y += int64_t(row) * d;
    float squares = 0;
    for (int i = 2 * lane; i < d; i += 64) squares += x[i] * x[i] + x[i + 1] * x[i + 1];
    for (int offset = 16; offset > 0; offset >>= 1) squares += __shfl_xor_sync(0xffffffff, squares, offset);
    const float factor = rsqrtf(squares / d + eps);
    for (int i = 2 * lane; i < d; i += 64) {
        float a = x[i] * factor * scale[i], b = x[i + 1] * factor * scale[i + 1];
        for (int k = 0; k < axes.count; k++) {
            const Axis & axis = axes.axis[k];
            const int within = i - axis.offset;
            if (within < 0 || within >= axis.dims) continue;
            const float angle = axis.positions[token] * exp2f(axis.log2_step * (within / 2));
            float sine, cosine;
            sincospif(angle * 0.31830988618379067154f, &sine, &cosine);
            const float turned = a * cosine - b * sine;
            b = a * sine + b * cosine;
            a = turned;
        }
        *reinterpret_cast<float2 *>(y + i) = {a, b};
    }
}

// ---- finding these operations in the graph ----

// Whether the nodes from i on are the operations `ops`, and each node is the only user of the node before it.
static bool is_run(const ggml_cgraph * graph, int i, std::initializer_list<ggml_op> ops) {
    if (i + int(ops.size()) > graph->n_nodes) return false;
    int k = 0;
    for (const ggml_op op : ops) {
        const ggml_tensor * node = graph->nodes[i + k];
        if (node->op != op) return false;
        if (k > 0 && node->src[0] != graph->nodes[i + k - 1] && node->src[1] != graph->nodes[i + k - 1]) return false;
        if (k + 1 < int(ops.size()) && !ggml_node_has_n_uses(graph, i + k, 1)) return false;
        k++;
    }
    return true;
}

static const ggml_tensor * other_source(const ggml_tensor * node, const ggml_tensor * source) {
    return node->src[0] == source ? node->src[1] : node->src[0];
}

static bool is_rows(const ggml_tensor * t, int64_t width, int multiple = 4) {
    return t->type == GGML_TYPE_F32 && ggml_is_contiguous(t) && t->ne[0] == width && width % multiple == 0 &&
           reinterpret_cast<uintptr_t>(t->data) % 16 == 0;
}

static bool is_vector(const ggml_tensor * t, int64_t width) { return is_rows(t, width) && ggml_nrows(t) == 1; }

// whatever its shape
static bool is_vector_of(const ggml_tensor * t, int64_t count) {
    return t->type == GGML_TYPE_F32 && ggml_is_contiguous(t) && ggml_nelements(t) == count;
}

static bool is_result(const ggml_tensor * t) {
    return (t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_BF16) && ggml_is_contiguous(t) &&
           reinterpret_cast<uintptr_t>(t->data) % 16 == 0;
}

// Whether y may be written while `sources` are read: if they share memory, each element must be at the same address.
static bool may_write(const ggml_tensor * y, std::initializer_list<const ggml_tensor *> sources) {
    const char *begin = static_cast<const char *>(y->data), *end = begin + ggml_nbytes(y);
    for (const ggml_tensor * source : sources) {
        const char * data = static_cast<const char *>(source->data);
        const bool same = data == begin && source->type == y->type && ggml_are_same_shape(source, y);
        if (!same && data < end && begin < data + ggml_nbytes(source)) return false;
    }
    return true;
}

constexpr int threads = 256;

static dim3 columns_by_rows(int64_t width, int64_t rows) {
    return dim3(unsigned((width / 4 + threads - 1) / threads), unsigned(rows));
}

// Computes the sequence that starts at node i, if it is one of those above. Returns how many nodes after node i were
// computed.
static int fuse(ggml_backend_cuda_context & ctx, const ggml_cgraph * graph, int i) {
    ggml_tensor * const * nodes = graph->nodes + i;
    const ggml_tensor * first = nodes[0];
    cudaStream_t stream = ctx.stream();

    if (first->op == GGML_OP_GROUP_NORM && is_run(graph, i, {GGML_OP_GROUP_NORM, GGML_OP_MUL, GGML_OP_ADD})) {
        const bool silu = is_run(graph, i, {GGML_OP_GROUP_NORM, GGML_OP_MUL, GGML_OP_ADD, GGML_OP_UNARY}) &&
                          ggml_get_unary_op(nodes[3]) == GGML_UNARY_OP_SILU;
        const ggml_tensor *x = first->src[0], *factor = other_source(nodes[1], first),
                          *shift = other_source(nodes[2], nodes[1]), *y = nodes[silu ? 3 : 2];
        const int64_t pixels = x->ne[0] * x->ne[1], channels = x->ne[2];
        const int groups = first->op_params[0];
        if (x->ne[3] != 1 || pixels % 4 || channels % groups || channels > 65535 || !is_rows(x, x->ne[0], 1) ||
            !is_vector_of(factor, channels) || !is_vector_of(shift, channels) || !is_rows(y, x->ne[0], 1) ||
            !may_write(y, {x, factor, shift}) || y->data == x->data)
            return 0;
        const int64_t group_size = pixels * (channels / groups);
        const int parts = int(std::min<int64_t>(64, (group_size / 4 + threads - 1) / threads));
        ggml_cuda_pool_alloc<float2> sums(ctx.pool(), int64_t(parts) * groups);
        group_sums<<<dim3(parts, groups), threads, 0, stream>>>(static_cast<const float *>(x->data), sums.get(),
                                                                group_size);
        const auto kernel = silu ? group_norm<true> : group_norm<false>;
        kernel<<<dim3(columns_by_rows(pixels, channels)), threads, 0, stream>>>(
            static_cast<const float *>(x->data), sums.get(), parts, static_cast<const float *>(factor->data),
            static_cast<const float *>(shift->data), static_cast<float *>(y->data), pixels, int(channels / groups),
            ggml_get_op_params_f32(first, 1));
        return silu ? 3 : 2;
    }

    if (first->op == GGML_OP_NORM && is_run(graph, i, {GGML_OP_NORM, GGML_OP_MUL, GGML_OP_ADD})) {
        const bool cast = is_run(graph, i, {GGML_OP_NORM, GGML_OP_MUL, GGML_OP_ADD, GGML_OP_CPY});
        const ggml_tensor *x = first->src[0], *factor = other_source(nodes[1], first),
                          *shift = other_source(nodes[2], nodes[1]), *y = nodes[cast ? 3 : 2];
        const int64_t width = x->ne[0], rows = ggml_nrows(x);
        if (!is_rows(x, width) || !is_vector(factor, width) || !is_vector(shift, width) || !is_result(y) ||
            !may_write(y, {x, factor, shift}))
            return 0;
        const float eps = ggml_get_op_params_f32(first, 0);
        const auto *x_data = static_cast<const float *>(x->data), *f = static_cast<const float *>(factor->data),
                   *s = static_cast<const float *>(shift->data);
        if (y->type == GGML_TYPE_F32)
            norm_modulate<<<unsigned(rows), threads, 0, stream>>>(x_data, f, s, static_cast<float *>(y->data),
                                                                  int(width), eps);
        else
            norm_modulate<<<unsigned(rows), threads, 0, stream>>>(x_data, f, s, static_cast<nv_bfloat16 *>(y->data),
                                                                  int(width), eps);
        return cast ? 3 : 2;
    }

    if (first->op == GGML_OP_ADD && is_run(graph, i, {GGML_OP_ADD, GGML_OP_UNARY}) &&
        ggml_get_unary_op(nodes[1]) == GGML_UNARY_OP_GELU) {
        const bool cast = is_run(graph, i, {GGML_OP_ADD, GGML_OP_UNARY, GGML_OP_CPY});
        const ggml_tensor *x = first->src[0], *bias = first->src[1], *y = nodes[cast ? 2 : 1];
        const int64_t width = x->ne[0], rows = ggml_nrows(x);
        if (!is_rows(x, width) || !is_vector(bias, width) || rows > 65535 || !is_result(y) || !may_write(y, {x, bias}))
            return 0;
        const auto *x_data = static_cast<const float *>(x->data), *b = static_cast<const float *>(bias->data);
        if (y->type == GGML_TYPE_F32)
            bias_gelu<<<columns_by_rows(width, rows), threads, 0, stream>>>(x_data, b, static_cast<float *>(y->data),
                                                                            int(width));
        else
            bias_gelu<<<columns_by_rows(width, rows), threads, 0, stream>>>(
                x_data, b, static_cast<nv_bfloat16 *>(y->data), int(width));
        return cast ? 2 : 1;
    }

    if (first->op == GGML_OP_ADD && is_run(graph, i, {GGML_OP_ADD, GGML_OP_MUL, GGML_OP_ADD})) {
        const ggml_tensor *x = first->src[0], *bias = first->src[1], *gate = other_source(nodes[1], first),
                          *residual = other_source(nodes[2], nodes[1]), *y = nodes[2];
        const int64_t width = x->ne[0], rows = ggml_nrows(x);
        if (!is_rows(x, width) || !is_vector(bias, width) || !is_vector(gate, width) || !is_rows(residual, width) ||
            ggml_nrows(residual) != rows || rows > 65535 || !is_rows(y, width) ||
            !may_write(y, {x, bias, gate, residual}))
            return 0;
        bias_gate_add<<<columns_by_rows(width, rows), threads, 0, stream>>>(
            static_cast<const float *>(x->data), static_cast<const float *>(bias->data),
            static_cast<const float *>(gate->data), static_cast<const float *>(residual->data),
            static_cast<float *>(y->data), int(width));
        return 2;
    }

    if (first->op == GGML_OP_RMS_NORM && is_run(graph, i, {GGML_OP_RMS_NORM, GGML_OP_MUL, GGML_OP_ROPE})) {
        const ggml_tensor *x = first->src[0], *scale = other_source(nodes[1], first);
        const int64_t d = x->ne[0];
        Axes axes = {};
        int last = 1;
        for (; axes.count < 3; last++) {
            if (i + last + 1 >= graph->n_nodes) break;
            const ggml_tensor * rope = nodes[last + 1];
            if (rope->op != GGML_OP_ROPE || rope->src[0] != nodes[last] || !ggml_node_has_n_uses(graph, i + last, 1))
                break;
            const int32_t * params = rope->op_params;
            float theta, scaling[3];  // frequency, extrapolation, attention
            memcpy(&theta, params + 5, sizeof(theta));
            memcpy(scaling, params + 6, sizeof(scaling));
            if (params[2] != GGML_ROPE_TYPE_NORMAL || scaling[0] != 1.0f || scaling[1] != 0.0f || scaling[2] != 1.0f ||
                rope->src[2] || rope->view_src)
                break;
            axes.axis[axes.count++] = {static_cast<const int32_t *>(rope->src[1]->data), params[15], params[1],
                                       -2.0f / params[1] * log2f(theta)};
        }
        const ggml_tensor * y = nodes[last];
        const bool suits = axes.count > 0 && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && d % 2 == 0 &&
                           x->ne[3] == 1 && scale->type == GGML_TYPE_F32 && ggml_is_contiguous(scale) &&
                           ggml_nelements(scale) == d && y->type == GGML_TYPE_F32 && ggml_is_contiguous(y);
        if (!suits || !may_write(y, {scale}) || !may_write(y, {x})) return 0;
        const int heads = int(x->ne[1]), rows = int(x->ne[1] * x->ne[2]), warps = threads / 32;
        norm_rope<<<(rows + warps - 1) / warps, threads, 0, stream>>>(
            static_cast<const float *>(x->data), static_cast<const float *>(scale->data), static_cast<float *>(y->data),
            int(d), heads, rows, int64_t(x->nb[1] / sizeof(float)), int64_t(x->nb[2] / sizeof(float)),
            ggml_get_op_params_f32(first, 0), axes);
        return last;
    }

    return 0;
}

}  // namespace ggflux
