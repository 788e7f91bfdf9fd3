// Convolutions as products by cuBLAS, and group norms with SiLU. Images are [width, height, channels] in F32.
#pragma once

#include "vectors.cuh"

namespace ggflux {

struct Patches {
    int in_width, in_height, out_width;
    int kernel_width, kernel_height, stride, padding;
};

static __device__ __forceinline__ void store_quad(float * y, const float (&v)[4]) {
    *reinterpret_cast<float4 *>(y) = {v[0], v[1], v[2], v[3]};
}

static __device__ __forceinline__ void store_quad(half * y, const float (&v)[4]) {
    const half h[4] = {to_half(v[0]), to_half(v[1]), to_half(v[2]), to_half(v[3])};
    *reinterpret_cast<uint2 *>(y) = *reinterpret_cast<const uint2 *>(h);
}

// Row (c * kernel_height + ky) * kernel_width + kx of y holds what the kernel's number at (kx, ky, c) is multiplied
// with, for the output's pixels first .. first + count. A row has `pitch` elements, a multiple of 4.
// Grid: (blocks, channels * kernel_height).
template <class T> static __global__ void unfold(const float * x, T * y, int64_t first, int count, int pitch,
                                                 Patches p) {
    const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= pitch) return;
    const int channel = blockIdx.y / p.kernel_height, ky = blockIdx.y % p.kernel_height;
    x += int64_t(channel) * p.in_width * p.in_height;
    y += int64_t(blockIdx.y) * p.kernel_width * pitch + i;
    const float * row[4];
    int column[4];
    int oy = int((first + i) / p.out_width), ox = int((first + i) % p.out_width);
    for (int e = 0; e < 4; e++) {
        const int iy = oy * p.stride + ky - p.padding;
        row[e] = i + e < count && iy >= 0 && iy < p.in_height ? x + int64_t(iy) * p.in_width : nullptr;
        column[e] = ox * p.stride - p.padding;
        if (++ox == p.out_width) ox = 0, oy++;
    }
    for (int kx = 0; kx < p.kernel_width; kx++, y += pitch) {
        float v[4];
        for (int e = 0; e < 4; e++) {
            const int ix = column[e] + kx;
            v[e] = row[e] && ix >= 0 && ix < p.in_width ? row[e][ix] : 0.0f;
        }
        store_quad(y, v);
    }
}

// The sums of x - pivot and of its square, for each of gridDim.x parts of each group; the pivot is the group's first
// number. Grid: (parts, groups).
static __global__ void group_sums(const float * x, float2 * sums, int64_t group_size) {
    x += blockIdx.y * group_size;
    const float pivot = x[0];
    float sum = 0, squares = 0;
    for (int64_t i = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x); i < group_size;
         i += 4 * int64_t(gridDim.x) * blockDim.x) {
        const float4 v = *reinterpret_cast<const float4 *>(x + i);
        const float a = v.x - pivot, b = v.y - pivot, c = v.z - pivot, d = v.w - pivot;
        sum += a + b + c + d;
        squares += a * a + b * b + c * c + d * d;
    }
    sum = block_sum(sum);
    squares = block_sum(squares);
    if (threadIdx.x == 0) sums[blockIdx.y * gridDim.x + blockIdx.x] = {sum, squares};
}

// y = ((x - mean) / sqrt(variance + eps)) * factor + shift, then SiLU if asked. Grid: (blocks, channels).
template <bool silu> static __global__ void group_norm(const float * x, const float2 * sums, int parts,
                                                       const float * factor, const float * shift, float * y,
                                                       int64_t pixels, int channels_per_group, float eps) {
    const int channel = blockIdx.y, group = channel / channels_per_group;
    double sum = 0, squares = 0;
    for (int part = 0; part < parts; part++) {
        sum += sums[group * parts + part].x;
        squares += sums[group * parts + part].y;
    }
    const double size = double(pixels) * channels_per_group, mean = sum / size;
    const float pivot = x[int64_t(group) * channels_per_group * pixels];
    const float scale = rsqrtf(float(fmax(squares / size - mean * mean, 0.0)) + eps) * factor[channel];
    const float offset = shift[channel] - (float(mean) + pivot) * scale;
    const int64_t i = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i >= pixels) return;
    float4 v = *reinterpret_cast<const float4 *>(x + channel * pixels + i);
    v = {v.x * scale + offset, v.y * scale + offset, v.z * scale + offset, v.w * scale + offset};
    if (silu) v = {v.x / (1 + expf(-v.x)), v.y / (1 + expf(-v.y)), v.z / (1 + expf(-v.z)), v.w / (1 + expf(-v.w))};
    *reinterpret_cast<float4 *>(y + channel * pixels + i) = v;
}

}  // namespace ggflux
