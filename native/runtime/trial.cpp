#include "trial.hpp"

#include "devices.hpp"
#include "error.hpp"

#include <ggml-cpp.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace ggflux {

namespace {

constexpr int64_t width = 256, rows = 64, tokens = 40;
constexpr size_t max_nodes = 64;
// GPUs round to half precision or to 8 bits, which is less than half of this
constexpr double tolerance = 0.03;

struct Trial {
    const char * name;
    ggml_tensor * result;
};

std::vector<float> normal_numbers(const ggml_tensor * tensor, std::mt19937 & random) {
    std::normal_distribution<float> normal;
    std::vector<float> numbers(ggml_nelements(tensor));
    for (float & number : numbers) number = normal(random);
    return numbers;
}

// One operation of each kind that the networks use, with weights of the usual types.
std::vector<Trial> build(ggml_context * ctx) {
    const auto matrix = [&](ggml_type type, std::initializer_list<int64_t> ne) {
        ggml_tensor * t = ggml_new_tensor(ctx, type, static_cast<int>(ne.size()), ne.begin());
        ggml_set_input(t);
        return t;
    };
    ggml_tensor * x = matrix(GGML_TYPE_F32, {width, tokens});
    std::vector<Trial> trials;
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K}) {
        ggml_tensor * y = ggml_mul_mat(ctx, matrix(type, {width, rows}), x);
        ggml_prec_set_acc(y, GGML_PREC_F32);
        trials.push_back({ggml_type_name(type), y});
    }
    trials.push_back({"normalisation", ggml_norm(ctx, x, 1e-6f)});
    trials.push_back({"activation", ggml_gelu(ctx, ggml_silu(ctx, x))});
    ggml_tensor * scores = ggml_mul_mat(ctx, x, x);
    ggml_prec_set_acc(scores, GGML_PREC_F32);
    trials.push_back({"softmax", ggml_soft_max_ext(ctx, scores, nullptr, 1.0f / 16, 0.0f)});
    ggml_tensor * image = matrix(GGML_TYPE_F32, {16, 16, 32});
    trials.push_back({"group norm", ggml_group_norm(ctx, image, 32, 1e-6f)});
    ggml_tensor * kernel = matrix(GGML_TYPE_F32, {3, 3, 32, 16});
    trials.push_back({"convolution", ggml_conv_2d(ctx, kernel, image, 1, 1, 1, 1, 1, 1)});
    trials.push_back({"enlarging", ggml_upscale(ctx, image, 2, GGML_SCALE_MODE_NEAREST)});
    return trials;
}

void fill(ggml_context * ctx) {
    std::mt19937 random(1);
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        if (!(t->flags & GGML_TENSOR_FLAG_INPUT)) continue;
        const std::vector<float> numbers = normal_numbers(t, random);
        std::vector<uint8_t> bytes(ggml_nbytes(t));
        ggml_quantize_chunk(t->type, numbers.data(), bytes.data(), 0, ggml_nrows(t), t->ne[0], nullptr);
        ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
    }
}

// The results on `device`. `left_out` are operations that the device does not have; the scheduler gives them to the CPU.
std::vector<std::vector<float>> compute(ggml_backend_dev_t device, std::vector<const char *> & names,
                                        std::vector<bool> & left_out) {
    const ggml_init_params params = {ggml_tensor_overhead() * max_nodes + ggml_graph_overhead(), nullptr, true};
    const ggml_context_ptr ctx(ggml_init(params));
    const std::vector<Trial> trials = build(ctx.get());
    const ggml_backend_ptr backend(ggml_backend_dev_init(device, nullptr));
    if (!backend) throw Error("FLUX_DEVICE", "it could not be started" + complaint());
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(ctx.get(), backend.get()));
    if (!buffer) throw Error("FLUX_DEVICE", "it could not allocate memory" + complaint());
    fill(ctx.get());
    ggml_cgraph * graph = ggml_new_graph(ctx.get());
    names.clear();
    left_out.resize(trials.size(), false);
    for (size_t i = 0; i < trials.size(); i++) {
        names.push_back(trials[i].name);
        for (const ggml_tensor * t = trials[i].result; t && t->op != GGML_OP_NONE; t = t->src[0])
            left_out[i] = left_out[i] || !ggml_backend_supports_op(backend.get(), t);
        if (!left_out[i]) ggml_build_forward_expand(graph, trials[i].result);
    }
    if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS)
        throw Error("FLUX_DEVICE", "it failed to compute" + complaint());
    std::vector<std::vector<float>> results;
    for (size_t i = 0; i < trials.size(); i++) {
        results.emplace_back(ggml_nelements(trials[i].result));
        if (!left_out[i])
            ggml_backend_tensor_get(trials[i].result, results.back().data(), 0, ggml_nbytes(trials[i].result));
    }
    return results;
}

}  // namespace

std::string try_device(const std::string & device) {
    std::vector<const char *> names;
    std::vector<bool> left_out;
    std::vector<std::vector<float>> found, expected;
    try {
        found = compute(find_device(device), names, left_out);
        expected = compute(cpu_device(), names, left_out);
    } catch (const Error & error) {
        const std::string text = error.what();
        return text.substr(text.find(": ") + 2);
    }
    if (std::find(left_out.begin(), left_out.end(), false) == left_out.end()) return "it has none of the operations";
    for (size_t i = 0; i < names.size(); i++) {
        if (left_out[i]) continue;
        double difference = 0, size = 0;
        for (size_t k = 0; k < expected[i].size(); k++) {
            difference += std::pow(static_cast<double>(found[i][k]) - expected[i][k], 2);
            size += std::pow(static_cast<double>(expected[i][k]), 2);
        }
        const double error = std::sqrt(difference / size);
        if (!(error <= tolerance))  // also if it is not a number
            return std::string("it computes wrongly (") + names[i] + ")";
    }
    return "";
}

}  // namespace ggflux
