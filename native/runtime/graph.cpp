#include "graph.hpp"
#include "error.hpp"

#include <cstring>

namespace ggflux {

namespace {

bool of_backend(ggml_backend_dev_t device, const char * name) {
    return std::strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), name) == 0;
}

}  // namespace

Graph::Graph(size_t max_nodes, ggml_backend_dev_t device, int cpu_threads, Precision precision,
             const std::atomic<bool> * cancel)
    : device_(device), cuda_(of_backend(device, "CUDA")),
      halves_(of_backend(device, "Vulkan") || of_backend(device, "MTL")), cpu_threads_(cpu_threads),
      precision_(precision), cancel_(cancel) {
    const ggml_init_params params = {
        ggml_tensor_overhead() * max_nodes * 2 + ggml_graph_overhead_custom(max_nodes, false), nullptr, true};
    context_.reset(ggml_init(params));
    if (!context_) throw Error("FLUX_OUT_OF_MEMORY", "no memory for the description of a graph");
    graph_ = ggml_new_graph_custom(ctx(), max_nodes, false);
}

ggml_tensor * Graph::input(std::initializer_list<int64_t> ne) {
    ggml_tensor * tensor = ggml_new_tensor(ctx(), GGML_TYPE_F32, static_cast<int>(ne.size()), ne.begin());
    ggml_set_input(tensor);
    inputs_.push_back({tensor, 0});
    return tensor;
}

ggml_tensor * Graph::indices(int64_t n, int64_t limit) {
    ggml_tensor * tensor = ggml_new_tensor_1d(ctx(), GGML_TYPE_I32, n);
    ggml_set_input(tensor);
    inputs_.push_back({tensor, limit});
    return tensor;
}

void Graph::output(ggml_tensor * tensor) {
    if (!ggml_is_contiguous(tensor)) tensor = ggml_cont(ctx(), tensor);
    ggml_set_output(tensor);
    outputs_.push_back(tensor);
    ggml_build_forward_expand(graph_, tensor);
}

void Graph::before(std::initializer_list<ggml_tensor *> tensors) {
    if (cpu_threads_ > 0) return;
    for (ggml_tensor * tensor : tensors) ggml_build_forward_expand(graph_, tensor);
}

void Graph::stop_point(ggml_tensor * tensor) { stop_points_.push_back(tensor); }

ggml_tensor * Graph::annotate(ggml_tensor * tensor, const char * name, double operations) {
    annotations_[tensor] = {name, operations};
    return tensor;
}

ggml_tensor * Graph::unrounded(ggml_tensor * weight) {
    return precision_ == Precision::f32 && weight->type != GGML_TYPE_F32 ? ggml_cast(ctx(), weight, GGML_TYPE_F32)
                                                                         : weight;
}

}  // namespace ggflux
