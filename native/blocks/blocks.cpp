#include "blocks.hpp"

#include "adapters/adapter.hpp"
#include "exact.hpp"
#include "kernels/attention.hpp"
#include "kernels/choice.hpp"
#include "kernels/conv2d.hpp"
#include "kernels/conv2d_bf16.hpp"
#include "kernels/group_scales.hpp"
#include "kernels/linear.hpp"

#include <algorithm>
#include <cmath>

namespace ggflux {

namespace {

// A CPU can only be stopped between operations, so long operations are split into parts of about a tenth of a second.
// Copying the results of the parts into one tensor adds about one percent to their time.
constexpr double flops_per_part = 16e9;  // for each thread

// The number of columns in a part, if all columns together take `flops`. The kernels work best with multiples of 64.
int64_t part_columns(const Graph & g, int64_t columns, double flops) {
    const double parts = g.cpu_threads() > 0 ? std::ceil(flops / (flops_per_part * g.cpu_threads())) : 1;
    if (parts <= 1) return columns;
    return std::max<int64_t>(
        64, GGML_PAD(static_cast<int64_t>(static_cast<double>(columns) / std::min<double>(parts, max_parts)), 64));
}

constexpr int groups = 32;  // in every group norm

void leave_as_it_is(ggml_tensor *, int, int, void *) {}

// Returns [width, n]. `part(first, count)` computes columns first .. first + count.
template <class Part> ggml_tensor * in_parts(Graph & g, int64_t width, int64_t n, int64_t step, ggml_tensor * after,
                                             Part part) {
    if (step >= n) return part(0, n);
    ggml_tensor * y = ggml_custom_4d(g.ctx(), GGML_TYPE_F32, width, n, 1, 1, &after, 1, leave_as_it_is, 1, nullptr);
    for (int64_t first = 0; first < n; first += step) {
        y = ggml_set_2d_inplace(g.ctx(), y, part(first, std::min(step, n - first)), y->nb[1], first * y->nb[1]);
    }
    return y;
}

// for one column
double operations_of(const Linear & layer) { return 2.0 * static_cast<double>(ggml_nelements(layer.weight)); }

// With few columns, reading the weights takes most of the time. ggml does that as well as our kernel.
bool kernel_suits(const Graph & g, const Linear & layer, const ggml_tensor * x) {
    const bool readable =
        layer.weight->buffer && ggml_backend_buffer_is_host(layer.weight->buffer) && x->nb[0] == sizeof(float);
    return g.cpu_threads() > 0 && x->ne[1] >= 32 && readable &&
           kernels::linear_suits(layer.weight->type, layer.weight->ne[0], layer.weight->ne[1], may_round(g, layer));
}

ggml_tensor * linear_by_kernel(Graph & g, const Linear & layer, ggml_tensor * bias, const kernels::Activations & a) {
    ggml_tensor * y = kernels::linear(g.ctx(), layer.weight, bias, a, may_round(g, layer), g.cpu_threads(), g.cancel());
    return g.annotate(y, "linear", operations_of(layer) * static_cast<double>(y->ne[1]));
}

}  // namespace

// On CUDA. This also makes ggml multiply quantised weights in bfloat16 and not in 8 bits. bfloat16 is 2.5 to 3.4 times
// faster on an H200, see docs/performance.md.
ggml_tensor * rounded(Graph & g, const Linear & layer, ggml_tensor * x) {
    return g.on_cuda() && !kernels::chosen("ggml") && x->type == GGML_TYPE_F32 && x->ne[1] >= 32 && may_round(g, layer)
               ? ggml_cast(g.ctx(), x, GGML_TYPE_BF16)
               : x;
}

namespace {

// Half precision has 11 bits, and numbers below 6e-5 have fewer. The rest is scaled into its range.
constexpr float rest_scale = 2048;

struct Halves {
    ggml_tensor *most, *rest;  // x is about most + rest / rest_scale
};

Halves in_halves(Graph & g, ggml_tensor * x) {
    ggml_tensor * most = ggml_cast(g.ctx(), x, GGML_TYPE_F16);
    ggml_tensor * rest =
        ggml_sub(g.ctx(), ggml_is_contiguous(x) ? x : ggml_cont(g.ctx(), x), ggml_cast(g.ctx(), most, GGML_TYPE_F32));
    return {most, ggml_scale(g.ctx(), rest, rest_scale)};
}

ggml_tensor * product_with_f32_sums(Graph & g, ggml_tensor * a, ggml_tensor * b) {
    ggml_tensor * y = ggml_mul_mat(g.ctx(), a, b);
    if (g.halves()) ggml_prec_set_acc(y, GGML_PREC_F32);
    return y;
}

// The product in F32 on a device that multiplies halves: three products instead of one. What is left out is 2^-22 of
// the result.
ggml_tensor * product_of_halves(Graph & g, ggml_tensor * a, ggml_tensor * b) {
    const Halves left = in_halves(g, a), right = in_halves(g, b);
    const auto times = [&](ggml_tensor * x, ggml_tensor * y) { return product_with_f32_sums(g, x, y); };
    ggml_tensor * rests =
        ggml_add(g.ctx(), times(left.most, right.rest),
                 times(ggml_cast(g.ctx(), left.rest, GGML_TYPE_F16), ggml_cast(g.ctx(), right.most, GGML_TYPE_F32)));
    return ggml_add(g.ctx(), times(left.most, ggml_cast(g.ctx(), right.most, GGML_TYPE_F32)),
                    ggml_scale(g.ctx(), rests, 1 / rest_scale));
}

ggml_tensor * product(Graph & g, ggml_tensor * a, ggml_tensor * b) {
    if (g.precision() != Precision::f32) return product_with_f32_sums(g, a, b);
    return g.halves() ? product_of_halves(g, a, b) : exact(ggml_mul_mat(g.ctx(), a, b));
}

// Activations in the middle of a feed-forward network can exceed 65504, the largest number in half precision. A power
// of two changes no digit.
constexpr float wide_scale = 32;

ggml_tensor * scaled(Graph & g, ggml_tensor * x, float factor) {
    return g.halves() ? ggml_scale(g.ctx(), x, factor) : x;
}

}  // namespace

ggml_tensor * linear(Graph & g, const Linear & layer, ggml_tensor * x, Range range) {
    const int64_t out = layer.weight->ne[1], n = x->ne[1];
    const double operations = operations_of(layer);
    ggml_tensor * all = x;
    x = first_rows(g, x, layer.weight->ne[0]);
    ggml_tensor * bias = adapted(g, layer.bias);
    if (kernel_suits(g, layer, x))
        return adapted(g, layer.weight, all, linear_by_kernel(g, layer, bias, {x}), may_round(g, layer));
    ggml_tensor * weight = g.unrounded(layer.weight);
    x = rounded(g, layer, x);
    const bool wide = range == Range::wide;
    if (wide) x = scaled(g, x, 1 / wide_scale);
    const int64_t step = part_columns(g, n, operations * static_cast<double>(n));
    ggml_tensor * y = in_parts(g, out, n, step, x, [&](int64_t first, int64_t count) {
        ggml_tensor * part = product(g, weight, count == n ? x : columns(g, x, first, count));
        return g.annotate(part, "linear", operations * static_cast<double>(count));
    });
    if (wide) y = scaled(g, y, wide_scale);
    return adapted(g, layer.weight, all, bias ? ggml_add(g.ctx(), y, bias) : y, may_round(g, layer));
}

ggml_tensor * linear_gelu(Graph & g, const Linear & layer, ggml_tensor * x, ggml_tensor * prefix_rows) {
    const bool plain = adapters_of(g, layer.weight).empty();  // adapters read the whole input
    if (plain && kernel_suits(g, layer, x) && (!prefix_rows || prefix_rows->ne[0] % 32 == 0))
        return linear_by_kernel(g, layer, adapted(g, layer.bias), {x, true, prefix_rows});
    x = ggml_gelu(g.ctx(), g.cpu_threads() > 0 || ggml_is_contiguous(x) ? x : ggml_cont(g.ctx(), x));
    x = rounded(g, layer, x);
    return linear(g, layer, prefix_rows ? ggml_concat(g.ctx(), rounded(g, layer, prefix_rows), x, 0) : x, Range::wide);
}

ggml_tensor * layer_norm(Graph & g, ggml_tensor * x, float eps) { return ggml_norm(g.ctx(), x, eps); }

ggml_tensor * layer_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps) {
    return ggml_add(g.ctx(), ggml_mul(g.ctx(), ggml_norm(g.ctx(), x, eps), adapted(g, norm.weight)),
                    adapted(g, norm.bias));
}

ggml_tensor * rms_norm(Graph & g, ggml_tensor * scale, ggml_tensor * x, float eps) {
    return ggml_mul(g.ctx(), ggml_rms_norm(g.ctx(), x, eps), adapted(g, scale));
}

ggml_tensor * modulate(Graph & g, ggml_tensor * x, ggml_tensor * shift, ggml_tensor * scale) {
    ggml_tensor * factor = ggml_scale_bias(g.ctx(), scale, 1.0f, 1.0f);
    g.before({factor, shift});
    return ggml_add(g.ctx(), ggml_mul(g.ctx(), x, factor), shift);
}

namespace {

// [d, heads, n] -> [d, n, heads], a view
ggml_tensor * heads_last(Graph & g, ggml_tensor * x) { return ggml_permute(g.ctx(), x, 0, 2, 1, 3); }

ggml_tensor * scores(Graph & g, ggml_tensor * q, ggml_tensor * k) {
    ggml_tensor * kq = product(g, heads_last(g, k), heads_last(g, q));  // [m, n, heads]
    ggml_prec_set_acc(kq, GGML_PREC_F32);
    return g.annotate(kq, "attention", 2.0 * static_cast<double>(ggml_nelements(kq) * q->ne[0]));
}

ggml_tensor * weighted_sum(Graph & g, ggml_tensor * probabilities, ggml_tensor * v) {
    ggml_tensor * vt = ggml_cont(g.ctx(), ggml_permute(g.ctx(), v, 1, 2, 0, 3));  // [m, d, heads]
    ggml_tensor * out = product(g, vt, probabilities);                            // [d, n, heads]
    g.annotate(out, "attention", 2.0 * static_cast<double>(ggml_nelements(out) * vt->ne[0]));
    const int64_t width = out->ne[0] * out->ne[2], n = out->ne[1];
    return ggml_reshape_2d(g.ctx(), ggml_cont(g.ctx(), heads_last(g, out)), width, n);
}

// The fused attention of GPUs rounds to half precision. CUDA's does not support heads with 512 numbers, which the
// autoencoder uses.
bool fused_attention_suits(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask) {
    if (g.cpu_threads() > 0) return true;
    constexpr int64_t most_queries = 65535;  // more end the process on Metal, see docs/architecture.md#metal-and-vulkan
    return g.precision() != Precision::f32 && q->ne[2] <= most_queries &&
           g.supported(ggml_flash_attn_ext(g.ctx(), heads_last(g, q), heads_last(g, k), heads_last(g, v), mask, 1.0f,
                                           0.0f, 0.0f));
}

constexpr int64_t scores_per_part = 64 << 20;  // 256 MiB
constexpr int64_t max_unfused_parts = 12;      // 10 nodes each, see attention_nodes

// The bias for keys and queries of all tokens, m of them, in half precision, which the fused attention asks for.
ggml_tensor * whole_mask(Graph & g, ggml_tensor * rows, int64_t m) {
    const int64_t t = rows->ne[0];
    ggml_tensor * padded = ggml_pad(g.ctx(), rows, static_cast<int>(m - t), 0, 0, 0);  // [m, t + 1]
    ggml_tensor * others = ggml_repeat_4d(g.ctx(), columns(g, padded, t, 1), m, m - t, 1, 1);
    return ggml_cast(g.ctx(), ggml_concat(g.ctx(), columns(g, padded, 0, t), others, 1), GGML_TYPE_F16);
}

// the part of a mask for queries first .. first + count, or null
ggml_tensor * mask_of(Graph & g, ggml_tensor * mask, int64_t first, int64_t count) {
    return mask ? columns(g, mask, first, count) : nullptr;
}

ggml_tensor * unfused_attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale,
                                ggml_tensor * mask) {
    const int64_t n = q->ne[2], step = std::max(scores_per_part / (q->ne[1] * k->ne[2]), n / max_unfused_parts + 1);
    ggml_tensor * y = nullptr;
    for (int64_t first = 0; first < n; first += step) {
        const int64_t count = std::min(step, n - first);
        ggml_tensor * queries =
            ggml_view_3d(g.ctx(), q, q->ne[0], q->ne[1], count, q->nb[1], q->nb[2], first * q->nb[2]);
        ggml_tensor * part = weighted_sum(
            g, ggml_soft_max_ext(g.ctx(), scores(g, queries, k), mask_of(g, mask, first, count), scale, 0.0f), v);
        y = y ? ggml_concat(g.ctx(), y, part, 1) : part;
    }
    return y;
}

}  // namespace

bool may_round(const Graph & g, const Linear & layer) {
    const bool fine = layer.weight->type == GGML_TYPE_F32 || layer.weight->type == GGML_TYPE_F16;
    return g.precision() == Precision::bf16 || (g.precision() == Precision::automatic && !fine);
}

ggml_tensor * attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, bool round, TextBias * bias) {
    const int64_t width = q->ne[0] * q->ne[1], n = q->ne[2];
    const double operations = 4.0 * static_cast<double>(width * k->ne[2]);  // of one query, in all heads
    if (g.cpu_threads() > 0 && round && kernels::attention_suits(q->ne[0])) {
        ggml_tensor * rows = bias ? bias->rows : nullptr;
        return g.annotate(kernels::attention(g.ctx(), q, k, v, rows, g.cpu_threads(), g.cancel()), "attention",
                          operations * static_cast<double>(n));
    }
    if (bias && !bias->mask) bias->mask = whole_mask(g, bias->rows, k->ne[2]);
    ggml_tensor * mask = bias ? bias->mask : nullptr;
    const float scale = 1.0f / std::sqrt(static_cast<float>(q->ne[0]));
    if (!fused_attention_suits(g, q, k, v, mask)) return unfused_attention(g, q, k, v, scale, mask);
    const int64_t step = part_columns(g, n, operations * static_cast<double>(n));
    return in_parts(g, width, n, step, q, [&](int64_t first, int64_t count) {
        ggml_tensor * queries =
            ggml_view_3d(g.ctx(), q, q->ne[0], q->ne[1], count, q->nb[1], q->nb[2], first * q->nb[2]);
        ggml_tensor * out = ggml_flash_attn_ext(g.ctx(), heads_last(g, queries), heads_last(g, k), heads_last(g, v),
                                                mask_of(g, mask, first, count), scale, 0.0f, 0.0f);
        ggml_prec_set_acc(out, GGML_PREC_F32);
        g.annotate(out, "attention", operations * static_cast<double>(count));
        return ggml_reshape_2d(g.ctx(), out, width, count);  // the result has the shape [d, heads, count]
    });
}

ggml_tensor * attention_with_bias(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale,
                                  ggml_tensor * bias) {
    // The fused operation is not used: its mask has half precision, which is too coarse for T5's bias.
    return weighted_sum(g, ggml_soft_max_ext(g.ctx(), scores(g, q, k), bias, scale, 0.0f), v);
}

ggml_tensor * causal_attention(Graph & g, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale) {
    ggml_tensor * masked = ggml_diag_mask_inf(g.ctx(), scores(g, q, k), 0);
    return weighted_sum(g, ggml_soft_max_ext(g.ctx(), masked, nullptr, scale, 0.0f), v);
}

ggml_tensor * rope(Graph & g, ggml_tensor * x, ggml_tensor * positions, int offset, int dims, float theta) {
    const auto rope_ext = g.cpu_threads() > 0
                              ? ggml_rope_ext_inplace
                              : ggml_rope_ext;  // not in place, so that a GPU can fuse it with the preceding norm
    ggml_tensor * rotated =
        rope_ext(g.ctx(), x, positions, nullptr, dims, GGML_ROPE_TYPE_NORMAL, 0, theta, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f);
    return ggml_rope_set_offset(rotated, offset);
}

namespace {

// Uses one of our kernels. Returns null if none fits. See kernels/conv2d.hpp.
ggml_tensor * own_conv2d(Graph & g, const Conv & conv, ggml_tensor * x, ggml_tensor * scales, bool upsample, int stride,
                         int pad) {
    if (g.cpu_threads() > 0 && g.precision() == Precision::bf16 &&
        kernels::conv2d_bf16_fits(conv.weight, x, stride, pad)) {
        return kernels::conv2d_bf16(g.ctx(), conv.weight, conv.bias, x, scales, upsample, g.cpu_threads(), g.cancel());
    }
    if (g.cpu_threads() > 0 && kernels::conv2d_fits(conv.weight, x, stride, pad)) {
        return kernels::conv2d(g.ctx(), conv.weight, conv.bias, x, scales, upsample, g.cpu_threads(), g.cancel());
    }
    return nullptr;
}

ggml_tensor * counted(Graph & g, const Conv & conv, ggml_tensor * y) {
    const int64_t taps = conv.weight->ne[0] * conv.weight->ne[1] * conv.weight->ne[2];
    return g.annotate(y, "convolution", 2.0 * static_cast<double>(ggml_nelements(y) * taps));
}

}  // namespace

namespace {

// On Vulkan and Metal: a product with the image unfolded into [kw * kh * in, w' * h']. Vulkan's own convolution adds up
// in half precision on GPUs with matrix units, and Metal's has no tiles. The unfolded image is up to 9 times as large, so
// it is made for some rows of the result at a time.
ggml_tensor * unfolded_convolution(Graph & g, const Conv & conv, ggml_tensor * x, int stride, int pad,
                                   bool normalised) {
    constexpr int64_t bytes_per_part = int64_t{512} << 20, most_parts = 12;
    ggml_context * ctx = g.ctx();
    const int64_t kernel = conv.weight->ne[1], out = conv.weight->ne[3];
    const int64_t inner = ggml_nelements(conv.weight) / out;
    const int64_t width = (x->ne[0] + 2 * pad - conv.weight->ne[0]) / stride + 1;
    const int64_t height = (x->ne[1] + 2 * pad - kernel) / stride + 1;
    const ggml_type type = g.precision() == Precision::f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
    const int64_t row_bytes = inner * width * static_cast<int64_t>(ggml_type_size(type));
    const int64_t step = std::max({int64_t{1}, bytes_per_part / row_bytes, (height + most_parts - 1) / most_parts});
    if (!normalised) x = scaled(g, x, 1 / wide_scale);
    ggml_tensor * weight = ggml_reshape_2d(ctx, conv.weight, inner, out);
    ggml_tensor * y = nullptr;
    for (int64_t first = 0; first < height; first += step) {
        const int64_t count = std::min(step, height - first);
        ggml_tensor * rows = x;
        // A part has padding at both ends, which only the image has. So it begins one row of the result earlier, and
        // rows that read false padding are left out.
        const int64_t extra = first > 0 ? 1 : 0;
        if (step < height) {
            const int64_t begin = (first - extra) * stride;
            const int64_t end = std::min(x->ne[1], (first + count - 1) * stride + kernel - pad);
            rows = ggml_cont(
                ctx, ggml_view_3d(ctx, x, x->ne[0], end - begin, x->ne[2], x->nb[1], x->nb[2], begin * x->nb[1]));
        }
        ggml_tensor * unfolded = ggml_im2col(ctx, conv.weight, rows, stride, stride, pad, pad, 1, 1, true, type);
        const int64_t found = unfolded->ne[2];
        ggml_tensor * part = product(g, ggml_reshape_2d(ctx, unfolded, inner, width * found), weight);
        part = ggml_reshape_3d(ctx, counted(g, conv, part), width, found, out);
        if (found != count)
            part = ggml_view_3d(ctx, part, width, count, out, part->nb[1], part->nb[2], extra * part->nb[1]);
        y = y ? ggml_concat(ctx, y, part, 1) : part;
    }
    return normalised ? y : scaled(g, y, wide_scale);
}

// On a GPU. CUDA rounds F32 to TF32, unless the precision is f32; the exponent is that of F32. It multiplies half
// precision twice as fast, with the same number of bits. Normalised images fit its range, others might not: the
// configurations of FLUX's autoencoder ask for F32 in place of F16.
ggml_tensor * convolution(Graph & g, const Conv & conv, ggml_tensor * x, int stride, int pad, bool normalised) {
    ggml_tensor * y = nullptr;
    if (g.halves()) {
        y = unfolded_convolution(g, conv, x, stride, pad, normalised);
    } else {
        const bool halve = normalised && g.on_cuda() && g.precision() != Precision::f32;
        ggml_tensor * weight = halve ? ggml_cast(g.ctx(), conv.weight, GGML_TYPE_F16) : conv.weight;
        y = counted(g, conv, ggml_conv_2d_direct(g.ctx(), weight, x, stride, stride, pad, pad, 1, 1));
        if (g.precision() == Precision::f32) exact(y);
    }
    return ggml_add(g.ctx(), y, ggml_reshape_3d(g.ctx(), conv.bias, 1, 1, conv.bias->ne[0]));
}

}  // namespace

ggml_tensor * conv2d(Graph & g, const Conv & conv, ggml_tensor * x, int stride, int pad) {
    if (ggml_tensor * y = own_conv2d(g, conv, x, nullptr, false, stride, pad)) return counted(g, conv, y);
    return convolution(g, conv, x, stride, pad, false);
}

ggml_tensor * upsample_conv2d(Graph & g, const Conv & conv, ggml_tensor * x) {
    if (ggml_tensor * y = own_conv2d(g, conv, x, nullptr, true, 1, 1)) return counted(g, conv, y);
    return conv2d(g, conv, ggml_upscale(g.ctx(), x, 2, GGML_SCALE_MODE_NEAREST), 1, 1);
}

ggml_tensor * norm_silu_conv2d(Graph & g, const Norm & norm, const Conv & conv, ggml_tensor * x, float eps) {
    if (g.cpu_threads() > 0) {
        ggml_tensor * scales = kernels::group_scales(g.ctx(), norm.weight, norm.bias, x, groups, eps, g.cpu_threads());
        if (ggml_tensor * y = own_conv2d(g, conv, x, scales, false, 1, 1)) {
            g.annotate(scales, "group_norm", 0);
            return counted(g, conv, y);
        }
    }
    return convolution(g, conv, ggml_silu(g.ctx(), group_norm(g, norm, x, eps)), 1, 1, true);
}

ggml_tensor * group_norm(Graph & g, const Norm & norm, ggml_tensor * x, float eps) {
    ggml_tensor * factor = ggml_reshape_3d(g.ctx(), norm.weight, 1, 1, x->ne[2]);
    ggml_tensor * shift = ggml_reshape_3d(g.ctx(), norm.bias, 1, 1, x->ne[2]);
    g.before({factor, shift});
    return ggml_add(g.ctx(), ggml_mul(g.ctx(), ggml_group_norm(g.ctx(), x, groups, eps), factor), shift);
}

Linear rows(Graph & g, const Linear & layer, int64_t first, int64_t count) {
    const ggml_tensor * w = layer.weight;
    return {ggml_view_2d(g.ctx(), layer.weight, w->ne[0], count, w->nb[1], first * w->nb[1]),
            layer.bias ? ggml_view_1d(g.ctx(), layer.bias, count, first * layer.bias->nb[0]) : nullptr};
}

std::vector<ggml_tensor *> chunk(Graph & g, ggml_tensor * x, int count) {
    const int64_t n = x->ne[0] / count;
    std::vector<ggml_tensor *> parts;
    for (int i = 0; i < count; i++) parts.push_back(ggml_view_1d(g.ctx(), x, n, i * n * x->nb[0]));
    return parts;
}

ggml_tensor * columns(Graph & g, ggml_tensor * x, int64_t first, int64_t count) {
    return ggml_view_2d(g.ctx(), x, x->ne[0], count, x->nb[1], first * x->nb[1]);
}

ggml_tensor * split_heads(Graph & g, ggml_tensor * x, int64_t first, int64_t d, int64_t heads) {
    return ggml_view_3d(g.ctx(), x, d, heads, x->ne[1], d * x->nb[0], x->nb[1], first * x->nb[0]);
}

}  // namespace ggflux
