#include "group_scales.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace ggflux::kernels {

namespace {

// passed in the user pointer of the custom operation
struct Options {
    int32_t groups;
    float eps;
};

void compute(ggml_tensor * scales, int ith, int nth, void * userdata) {
    Options options;
    std::memcpy(&options, &userdata, sizeof(options));
    const ggml_tensor * x = scales->src[0];
    const auto *weight = static_cast<const float *>(scales->src[1]->data),
               *bias = static_cast<const float *>(scales->src[2]->data);
    const int64_t channels = x->ne[2], each = channels / options.groups, count = each * x->ne[0] * x->ne[1];
    auto *factors = static_cast<float *>(scales->data), *offsets = factors + channels;
    for (int64_t group = ith; group < options.groups; group += nth) {
        const float * values = static_cast<const float *>(x->data) + group * count;
        double sums[8] = {}, squares[8] = {};
        int64_t i = 0;
        for (; i + 8 <= count; i += 8) {
            for (int j = 0; j < 8; j++) {
                const double value = values[i + j];
                sums[j] += value;
                squares[j] += value * value;
            }
        }
        for (; i < count; i++) {
            sums[0] += values[i];
            squares[0] += static_cast<double>(values[i]) * values[i];
        }
        double sum = 0, square = 0;
        for (int j = 0; j < 8; j++) {
            sum += sums[j];
            square += squares[j];
        }
        const double mean = sum / static_cast<double>(count),
                     variance = square / static_cast<double>(count) - mean * mean;
        const double scale = 1.0 / std::sqrt(std::fmax(variance, 0.0) + options.eps);
        for (int64_t c = group * each; c < (group + 1) * each; c++) {
            factors[c] = static_cast<float>(scale * weight[c]);
            offsets[c] = static_cast<float>(bias[c] - mean * scale * weight[c]);
        }
    }
}

}  // namespace

ggml_tensor * group_scales(ggml_context * ctx, ggml_tensor * weight, ggml_tensor * bias, ggml_tensor * x, int groups,
                           float eps, int threads) {
    static_assert(sizeof(Options) <= sizeof(void *), "the options travel in the pointer");
    const Options options = {groups, eps};
    void * userdata = nullptr;
    std::memcpy(&userdata, &options, sizeof(options));
    ggml_tensor * sources[] = {x, weight, bias};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, x->ne[2], 2, 1, 1, sources, 3, compute, threads, userdata);
}

}  // namespace ggflux::kernels
