// Attention without a mask for GPUs with asynchronous copies (compute capability 8.0 and newer): softmax(q k^T) v, one
// pass over the keys with a running maximum, as in FlashAttention-2 (Dao 2023, arXiv:2307.08691). Products are in half
// precision with F32 sums. Values out of the range of half precision are clamped, NaN stays NaN.
#pragma once

#include "vectors.cuh"

namespace ggflux {

static __device__ __forceinline__ unsigned pack_halves(float low, float high) {
    const half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const unsigned *>(&pair);
}

struct HeadsView {
    const float * data;
    int64_t head_stride, token_stride;  // in elements; the D numbers of a head are adjacent
    float scale;
};

// [heads, tokens, D] in half precision from up to three views of `heads` heads. Grid: (blocks, heads, views).
template <int D> static __global__ void pack_heads(HeadsView q, HeadsView k, HeadsView v, half * to_q, half * to_k,
                                                   half * to_v, int queries, int keys) {
    const HeadsView from = blockIdx.z == 0 ? q : blockIdx.z == 1 ? k : v;
    half * to = blockIdx.z == 0 ? to_q : blockIdx.z == 1 ? to_k : to_v;
    const int tokens = blockIdx.z == 0 ? queries : keys;
    const int i = blockIdx.x * blockDim.x + threadIdx.x, token = i / (D / 4), column = i % (D / 4) * 4;
    if (token >= tokens) return;
    const float4 x = *reinterpret_cast<const float4 *>(from.data + blockIdx.y * from.head_stride +
                                                       token * from.token_stride + column);
    half y[4] = {to_half(x.x * from.scale), to_half(x.y * from.scale), to_half(x.z * from.scale),
                 to_half(x.w * from.scale)};
    *reinterpret_cast<uint2 *>(to + (int64_t(blockIdx.y) * tokens + token) * D + column) =
        *reinterpret_cast<const uint2 *>(y);
}

namespace mma {

static __device__ __forceinline__ unsigned shared_address(const void * p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// 16 bytes; zeros unless `valid`
static __device__ __forceinline__ void copy_async(unsigned to, const void * from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0));
}

static __device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }
static __device__ __forceinline__ void wait() { asm volatile("cp.async.wait_group 0;"); }

static __device__ __forceinline__ void load_matrices(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

static __device__ __forceinline__ void load_transposed(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// c [16, 8] += a [16, 16] b [16, 8]
static __device__ __forceinline__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace mma

// Each warp computes M tiles of 16 queries, a block WARPS * M * 16; the keys come in tiles of N.
template <int D, int N, int WARPS, int M> struct AttentionShape {
    static constexpr int queries = WARPS * M * 16, threads = 32 * WARPS;
    static constexpr int shared_bytes = (queries + 2 * N) * D * int(sizeof(half));
};

// q [heads, n, D], scaled by log2(e) / sqrt(D); k, v [heads, m, D]; y [n, heads, D]. Grid: (ceil(n / queries), heads).
template <int D, int N, int WARPS, int M>
static __global__ void __launch_bounds__(32 * WARPS)
    attention(const half * q, const half * k, const half * v, float * y, int n, int m) {
#if __CUDA_ARCH__ >= 800
    using Shape = AttentionShape<D, N, WARPS, M>;
    constexpr int chunks = D / 8;  // of 16 bytes in a row
    extern __shared__ __align__(16) half tiles[];
    const unsigned q_tile = mma::shared_address(tiles), k_tile = q_tile + Shape::queries * D * 2,
                   v_tile = k_tile + N * D * 2;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y, heads = gridDim.y;
    const int first = blockIdx.x * Shape::queries;
    q += int64_t(head) * n * D;
    k += int64_t(head) * m * D;
    v += int64_t(head) * m * D;

    // Chunks of a row are exchanged so that eight rows of one column of chunks lie in different banks.
    const auto at = [](unsigned tile, int row, int chunk) { return tile + (row * chunks + (chunk ^ (row & 7))) * 16; };
    const auto load = [&](unsigned tile, const half * from, int row0, int rows, int limit) {
        for (int i = threadIdx.x; i < rows * chunks; i += Shape::threads) {
            const int row = i / chunks, chunk = i % chunks;
            const bool valid = row0 + row < limit;
            mma::copy_async(at(tile, row, chunk), from + int64_t(valid ? row0 + row : 0) * D + chunk * 8, valid);
        }
        mma::commit();
    };

    load(q_tile, q, first, Shape::queries, n);
    load(k_tile, k, 0, N, m);

    float o[M][D / 8][4] = {}, top[M][2], sum[M][2] = {};
#pragma unroll
    for (int i = 0; i < M; i++) top[i][0] = top[i][1] = -INFINITY;

    for (int j = 0; j < m; j += N) {
        mma::wait();
        __syncthreads();
        load(v_tile, v, j, N, m);

        float s[M][N / 8][4] = {};
#pragma unroll
        for (int c = 0; c < D / 16; c++) {
            unsigned a[M][4];
#pragma unroll
            for (int i = 0; i < M; i++)
                mma::load_matrices(a[i], at(q_tile, (warp * M + i) * 16 + lane % 16, 2 * c + lane / 16));
#pragma unroll
            for (int t = 0; t < N / 16; t++) {
                unsigned b[4];
                mma::load_matrices(b, at(k_tile, 16 * t + lane % 8 + lane / 16 * 8, 2 * c + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < M; i++) {
                    mma::multiply(s[i][2 * t], a[i], b[0], b[1]);
                    mma::multiply(s[i][2 * t + 1], a[i], b[2], b[3]);
                }
            }
        }
        if (j + N > m) {
#pragma unroll
            for (int i = 0; i < M; i++)
#pragma unroll
                for (int t = 0; t < N / 8; t++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (j + 8 * t + lane % 4 * 2 + e % 2 >= m) s[i][t][e] = -INFINITY;
        }

#pragma unroll
        for (int i = 0; i < M; i++) {
#pragma unroll
            for (int half_tile = 0; half_tile < 2; half_tile++) {  // rows lane / 4 and lane / 4 + 8
                const int e = 2 * half_tile;
                float most = top[i][half_tile];
#pragma unroll
                for (int t = 0; t < N / 8; t++) most = fmaxf(most, fmaxf(s[i][t][e], s[i][t][e + 1]));
                most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
                const float before = top[i][half_tile];
                top[i][half_tile] = most;
                if (__any_sync(0xffffffff, most != before)) {
                    const float factor = exp2f(before - most);
                    sum[i][half_tile] *= factor;
#pragma unroll
                    for (int t = 0; t < D / 8; t++) {
                        o[i][t][e] *= factor;
                        o[i][t][e + 1] *= factor;
                    }
                }
#pragma unroll
                for (int t = 0; t < N / 8; t++) {
                    s[i][t][e] = exp2f(s[i][t][e] - most);
                    s[i][t][e + 1] = exp2f(s[i][t][e + 1] - most);
                    sum[i][half_tile] += s[i][t][e] + s[i][t][e + 1];
                }
            }
        }

        mma::wait();
        __syncthreads();
        if (j + N < m) load(k_tile, k, j + N, N, m);
#pragma unroll
        for (int c = 0; c < N / 16; c++) {
            unsigned a[M][4];
#pragma unroll
            for (int i = 0; i < M; i++) {
                a[i][0] = pack_halves(s[i][2 * c][0], s[i][2 * c][1]);
                a[i][1] = pack_halves(s[i][2 * c][2], s[i][2 * c][3]);
                a[i][2] = pack_halves(s[i][2 * c + 1][0], s[i][2 * c + 1][1]);
                a[i][3] = pack_halves(s[i][2 * c + 1][2], s[i][2 * c + 1][3]);
            }
#pragma unroll
            for (int t = 0; t < D / 16; t++) {
                unsigned b[4];
                mma::load_transposed(b, at(v_tile, 16 * c + lane % 16, 2 * t + lane / 16));
#pragma unroll
                for (int i = 0; i < M; i++) {
                    mma::multiply(o[i][2 * t], a[i], b[0], b[1]);
                    mma::multiply(o[i][2 * t + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

#pragma unroll
    for (int i = 0; i < M; i++) {
#pragma unroll
        for (int half_tile = 0; half_tile < 2; half_tile++) {
            float total = sum[i][half_tile];
            total += __shfl_xor_sync(0xffffffff, total, 1);
            total += __shfl_xor_sync(0xffffffff, total, 2);
            const int row = first + (warp * M + i) * 16 + half_tile * 8 + lane / 4;
            if (row >= n) continue;
            float * to = y + (int64_t(row) * heads + head) * D + lane % 4 * 2;
            const float factor = 1.0f / total;
#pragma unroll
            for (int t = 0; t < D / 8; t++)
                *reinterpret_cast<float2 *>(to + 8 * t) = {o[i][t][2 * half_tile] * factor,
                                                           o[i][t][2 * half_tile + 1] * factor};
        }
    }
#else
    (void) q, (void) k, (void) v, (void) y, (void) n, (void) m;
#endif
}

}  // namespace ggflux
