// Single operations of ggml that are computed here and not by ggml's CUDA module, because that takes several times as
// long: attention, convolutions, casts and concatenations. docs/performance.md has the figures. This file is included
// into ggml-cuda.cu before ggml_cuda_compute_forward, see ggml-cuda-mended.cmake.
#pragma once

#include "../../blocks/exact.hpp"
#include "attention.cuh"
#include "convolution.cuh"

namespace ggflux {

// Whether our kernels are used. The environment variable is that of native/kernels/choice.hpp.
static bool enabled() {
    static const char * choice = getenv("GGFLUX_KERNELS");
    return !choice || strcmp(choice, "ggml") != 0;
}

static bool is_aligned(const ggml_tensor * t) { return reinterpret_cast<uintptr_t>(t->data) % 16 == 0; }

template <class T> static T * data(const ggml_tensor * t) { return static_cast<T *>(t->data); }

static unsigned blocks_for(int64_t count, int threads) { return unsigned((count + threads - 1) / threads); }

// ---- attention ----

static HeadsView heads_view(const ggml_tensor * t, float scale) {  // t [D, tokens, heads]
    return {data<const float>(t), int64_t(t->nb[2] / sizeof(float)), int64_t(t->nb[1] / sizeof(float)), scale};
}

static bool is_heads(const ggml_tensor * t, int64_t d) {
    return t->type == GGML_TYPE_F32 && t->ne[0] == d && t->ne[3] == 1 && t->nb[0] == sizeof(float) &&
           t->nb[1] % 16 == 0 && t->nb[2] % 16 == 0 && is_aligned(t);
}

template <int D, int N, int WARPS, int M> static void run_attention(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    using Shape = AttentionShape<D, N, WARPS, M>;
    const ggml_tensor *q = y->src[0], *k = y->src[1], *v = y->src[2];
    const int n = int(q->ne[1]), m = int(k->ne[1]), heads = int(q->ne[2]);
    ggml_cuda_pool_alloc<half> packed(ctx.pool(), int64_t(n + 2 * int64_t(m)) * heads * D);
    half *q_half = packed.get(), *k_half = q_half + int64_t(n) * heads * D, *v_half = k_half + int64_t(m) * heads * D;
    cudaStream_t stream = ctx.stream();
    constexpr int threads = 256;
    constexpr float log2_e = 1.44269504088896340736f;
    const dim3 grid(blocks_for(int64_t(std::max(n, m)) * (D / 4), threads), heads, 3);
    pack_heads<D><<<grid, threads, 0, stream>>>(heads_view(q, log2_e * ggml_get_op_params_f32(y, 0)), heads_view(k, 1),
                                                heads_view(v, 1), q_half, k_half, v_half, n, m);
    const auto kernel = attention<D, N, WARPS, M>;
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::shared_bytes));
    kernel<<<dim3(blocks_for(n, Shape::queries), heads), Shape::threads, Shape::shared_bytes, stream>>>(
        q_half, k_half, v_half, data<float>(y), n, m);
    CUDA_CHECK(cudaGetLastError());
}

static bool attend(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    const ggml_tensor *q = y->src[0], *k = y->src[1], *v = y->src[2];
    const int64_t d = q->ne[0];
    const bool plain =
        !y->src[3] && !y->src[4] && ggml_get_op_params_f32(y, 1) == 0.0f && ggml_get_op_params_f32(y, 2) == 0.0f;
    if (!plain || ggml_cuda_info().devices[ctx.device].cc < GGML_CUDA_CC_AMPERE || !is_heads(q, d) || !is_heads(k, d) ||
        !is_heads(v, d) || q->ne[2] != k->ne[2] || q->ne[2] != v->ne[2] || !is_aligned(y) ||
        std::max(q->ne[1], k->ne[1]) > 1 << 22)
        return false;
    if (d == 128) run_attention<128, 64, 4, 2>(ctx, y);
    else if (d == 64) run_attention<64, 64, 4, 2>(ctx, y);
    else return false;
    return true;
}

// ---- convolutions ----

constexpr size_t max_unfolded_bytes = size_t(128) << 20;

template <class T> static void run_convolution(ggml_backend_cuda_context & ctx, ggml_tensor * y, const Patches & p) {
    const ggml_tensor *kernel = y->src[0], *x = y->src[1];
    const int64_t pixels = y->ne[0] * y->ne[1], taps = kernel->ne[0] * kernel->ne[1] * kernel->ne[2];
    const int channels = int(y->ne[2]), rows = int(kernel->ne[1] * kernel->ne[2]);
    constexpr bool is_half = sizeof(T) == 2;
    const bool pointwise = taps == kernel->ne[2] && p.stride == 1 && p.padding == 0 && !is_half;
    const int64_t fitting = int64_t(max_unfolded_bytes / (sizeof(T) * taps)) / 64 * 64;
    const int64_t step = pointwise ? pixels : std::min(std::max<int64_t>(fitting, 64), pixels);
    const int pitch = int((step + 7) / 8 * 8);
    ggml_cuda_pool_alloc<T> unfolded(ctx.pool(), pointwise ? 1 : pitch * taps);
    cudaStream_t stream = ctx.stream();
    const float one = 1.0f, zero = 0.0f;
    for (int64_t first = 0; first < pixels; first += step) {
        const int count = int(std::min(step, pixels - first));
        const void * columns = data<const float>(x) + first;
        if (!pointwise) {
            constexpr int threads = 256;
            unfold<<<dim3(blocks_for(pitch / 4, threads), rows), threads, 0, stream>>>(
                data<const float>(x), unfolded.get(), first, count, pitch, p);
            columns = unfolded.get();
        }
        // [pixels, taps] x [taps, channels] -> [pixels, channels], the first dimension the fastest
        CUBLAS_CHECK(cublasGemmEx(ctx.cublas_handle(), CUBLAS_OP_N, CUBLAS_OP_N, count, channels, int(taps), &one,
                                  columns, is_half ? CUDA_R_16F : CUDA_R_32F, pointwise ? int(pixels) : pitch,
                                  kernel->data, is_half ? CUDA_R_16F : CUDA_R_32F, int(taps), &zero,
                                  data<float>(y) + first, CUDA_R_32F, int(pixels),
                                  is_half       ? CUBLAS_COMPUTE_32F
                                  : is_exact(y) ? CUBLAS_COMPUTE_32F_PEDANTIC
                                                : CUBLAS_COMPUTE_32F_FAST_TF32,
                                  CUBLAS_GEMM_DEFAULT));
    }
}

static bool convolve(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    const ggml_tensor *kernel = y->src[0], *x = y->src[1];
    const int32_t * params = y->op_params;  // stride, padding, dilation, each for x and y
    const bool plain = params[0] == params[1] && params[2] == params[3] && params[4] == 1 && params[5] == 1;
    const bool small = ggml_nelements(x) <= INT32_MAX && y->ne[0] * y->ne[1] <= INT32_MAX - 64 && x->ne[3] == 1 &&
                       kernel->ne[1] * kernel->ne[2] <= 65535;
    if (!plain || !small || x->type != GGML_TYPE_F32 || !ggml_is_contiguous(x) || !ggml_is_contiguous(kernel))
        return false;
    const Patches p = {int(x->ne[0]),      int(x->ne[1]),  int(y->ne[0]), int(kernel->ne[0]),
                       int(kernel->ne[1]), int(params[0]), int(params[2])};
    if (kernel->type == GGML_TYPE_F16) run_convolution<half>(ctx, y, p);
    else if (kernel->type == GGML_TYPE_F32) run_convolution<float>(ctx, y, p);
    else return false;
    return true;
}

// ---- copies ----

static __global__ void to_bfloat16(const float * x, nv_bfloat16 * y, int64_t count) {
    const int64_t i = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i < count) store(y + i, load4(x + i));
}

static bool cast(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    const ggml_tensor * x = y->src[0];
    const int64_t count = ggml_nelements(x);
    if (x->type != GGML_TYPE_F32 || y->type != GGML_TYPE_BF16 || !ggml_is_contiguous(x) || !ggml_is_contiguous(y) ||
        count % 4 || !is_aligned(x) || !is_aligned(y))
        return false;
    constexpr int threads = 256;
    to_bfloat16<<<blocks_for(count / 4, threads), threads, 0, ctx.stream()>>>(data<const float>(x),
                                                                              data<nv_bfloat16>(y), count);
    return true;
}

// The bytes from one index of dimension `dim` to the next hold the lower dimensions without gaps.
static bool has_rows(const ggml_tensor * t, int dim) {
    for (int i = dim + 1; i < GGML_MAX_DIMS; i++)
        if (t->ne[i] != 1) return false;
    size_t bytes = ggml_type_size(t->type);
    for (int i = 0; i < dim; i++) {
        if (t->nb[i] != bytes) return false;
        bytes *= t->ne[i];
    }
    return true;
}

// Along the last dimension of a tensor, or along the first of a matrix.
static bool concatenate(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    const ggml_tensor * parts[2] = {y->src[0], y->src[1]};
    const int dim = y->op_params[0];
    if (ggml_blck_size(y->type) != 1 || !ggml_is_contiguous(y)) return false;
    const int last = dim == 0 ? 1 : dim;  // the dimension that a row belongs to one index of
    if (!has_rows(parts[0], last) || !has_rows(parts[1], last)) return false;
    char * to = data<char>(y);
    for (const ggml_tensor * x : parts) {
        size_t width = ggml_type_size(x->type);
        for (int i = 0; i < last; i++) width *= x->ne[i];
        const size_t pitch = dim == 0 ? y->nb[1] : width;
        CUDA_CHECK(cudaMemcpy2DAsync(to, pitch, x->data, x->nb[last], width, x->ne[last], cudaMemcpyDeviceToDevice,
                                     ctx.stream()));
        to += dim == 0 ? width : width * x->ne[last];
    }
    return true;
}

// Computes y, if it is one of these operations.
static bool compute(ggml_backend_cuda_context & ctx, ggml_tensor * y) {
    switch (y->op) {
        case GGML_OP_FLASH_ATTN_EXT: return attend(ctx, y);
        case GGML_OP_CONV_2D: return convolve(ctx, y);
        case GGML_OP_CPY: return cast(ctx, y);
        case GGML_OP_CONCAT: return concatenate(ctx, y);
        default: return false;
    }
}

}  // namespace ggflux
