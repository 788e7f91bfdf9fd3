// Four numbers at a time, and sums over a block of threads.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace ggflux {

static __device__ __forceinline__ void store(float * y, float4 v) { *reinterpret_cast<float4 *>(y) = v; }

static __device__ __forceinline__ void store(nv_bfloat16 * y, float4 v) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
    *reinterpret_cast<uint2 *>(y) = {*reinterpret_cast<const unsigned *>(&low),
                                     *reinterpret_cast<const unsigned *>(&high)};
}

static __device__ __forceinline__ float4 load4(const float * x) { return *reinterpret_cast<const float4 *>(x); }

// sum over all threads of a block of at most 1024
static __device__ __forceinline__ float block_sum(float value) {
    __shared__ float warps[32];
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffff, value, offset);
    __syncthreads();  // wait until the previous sum has been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : 0.0f;
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffff, value, offset);
    return value;
}

// Values out of range are clamped. NaN stays NaN.
static __device__ __forceinline__ half to_half(float x) {
    return __float2half_rn(fabsf(x) > 65504.0f ? copysignf(65504.0f, x) : x);
}

}  // namespace ggflux
