#include "evaluator.hpp"
#include "error.hpp"

#include <algorithm>

namespace ggflux {

namespace {

ggml_backend_ptr start(ggml_backend_dev_t device) {
    ggml_backend_ptr backend(ggml_backend_dev_init(device, nullptr));
    if (!backend)
        throw Error("FLUX_DEVICE",
                    std::string("the device ") + ggml_backend_dev_name(device) + " could not be started" + complaint());
    return backend;
}

// CUDA allocates more memory during an evaluation, and ends the process if there is none: for matrices that are
// converted before a product, and for our kernels (native/ggml/cuda/operations.cuh). Returns the most that one operation
// takes, with the workspace of cuBLAS.
size_t cuda_working_memory(ggml_cgraph * graph) {
    constexpr size_t workspace = size_t{128} << 20, unfolded_image = size_t{128} << 20;
    size_t most = 0;
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        size_t bytes = 0;
        if (node->op == GGML_OP_MUL_MAT)
            for (const ggml_tensor * source : {node->src[0], node->src[1]})
                if (source->type != GGML_TYPE_F32 || node->src[0]->type != GGML_TYPE_F32)
                    bytes += ggml_nelements(source) * sizeof(ggml_bf16_t);
        if (node->op == GGML_OP_FLASH_ATTN_EXT)
            for (int k = 0; k < 3; k++) bytes += ggml_nelements(node->src[k]) * sizeof(ggml_fp16_t);
        if (node->op == GGML_OP_CONV_2D) bytes = unfolded_image;
        most = std::max(most, bytes);
    }
    return most + workspace;
}

bool poll_cancel(void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }

}  // namespace

Evaluator::Evaluator(const Machine & machine, const std::atomic<bool> & cancel)
    : device_(find_device(machine.device)), remote_(is_rpc(machine.device)), threads_(std::max(1, machine.threads)),
      precision_(machine.precision), cancel_(cancel) {
    backends_.push_back(start(device_));
    if (!on_cpu()) backends_.push_back(start(cpu_device()));
    const auto set = procedure<ggml_backend_set_n_threads_t>(ggml_backend_dev_backend_reg(cpu_device()),
                                                             "ggml_backend_set_n_threads");
    if (set) set(backends_.back().get(), threads_);
}

std::unique_ptr<Graph> Evaluator::make_graph(size_t max_nodes, const Build & build) {
    auto graph = std::make_unique<Graph>(max_nodes, device_, on_cpu() ? threads_ : 0, precision_, &cancel_);
    build(*graph);
    ggml_backend_sched_reset(sched_.get());
    return graph;
}

// The size of the buffer that each backend will need. It is measured on a separate graph, because splitting a graph
// between devices changes its connections.
std::vector<size_t> Evaluator::trial_sizes(size_t max_nodes, const Build & build) {
    forget_graph();
    if (sched_nodes_ < max_nodes) {
        std::vector<ggml_backend_t> backends;
        for (const ggml_backend_ptr & backend : backends_) backends.push_back(backend.get());
        compute_bytes_ = 0;
        sched_.reset();
        sched_.reset(ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()), max_nodes * 2,
                                            false, /*op_offload=*/true));
        sched_nodes_ = max_nodes;
    }
    std::vector<size_t> sizes(backends_.size(), 0);
    const std::unique_ptr<Graph> graph = make_graph(max_nodes, build);
    working_bytes_ = graph->on_cuda() ? cuda_working_memory(graph->nodes()) : 0;  // of the graph as it was built
    ggml_backend_sched_reserve_size(sched_.get(), graph->nodes(), sizes.data());
    return sizes;
}

void Evaluator::forget_graph() {
    graph_.reset();
    key_.clear();
}

void Evaluator::trim() {
    forget_graph();
    sched_.reset();
    sched_nodes_ = 0;
    compute_bytes_ = 0;
}

size_t Evaluator::measure(size_t max_nodes, const Build & build) {
    size_t bytes = 0;
    for (const size_t size : trial_sizes(max_nodes, build)) bytes += size;
    return bytes + working_bytes_;
}

void Evaluator::prepare(const std::string & key, size_t max_nodes, const Build & build, size_t memory_limit) {
    if (graph_ && key == key_) return;
    const std::vector<size_t> sizes = trial_sizes(max_nodes, build);
    const auto refuse = [&](size_t need, size_t limit, const char * where) {
        throw Error("FLUX_OUT_OF_MEMORY", "this size needs " + std::to_string(need >> 20) + " MiB of " + where +
                                              " for activations and " + std::to_string(limit >> 20) +
                                              " MiB are free; choose a smaller image, or free memory");
    };
    // Buffers from a previous shape are reused.
    if (sizes.back() > memory_limit + compute_bytes_) refuse(sizes.back(), memory_limit + compute_bytes_, "memory");
    if (!on_cpu()) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(device_, &free, &total);
        const size_t held = ggml_backend_sched_get_buffer_size(sched_.get(), backends_.front().get());
        const size_t need = sizes.front() + working_bytes_, limit = free + held + working_bytes_held_;
        if (total && need > limit) refuse(need, limit, "the device's memory");
    }

    const bool reserved = ggml_backend_sched_reserve(sched_.get(), make_graph(max_nodes, build)->nodes());
    auto graph = make_graph(max_nodes, build);
    if (!reserved || !ggml_backend_sched_alloc_graph(sched_.get(), graph->nodes())) {
        trim();  // the state of the buffers is unknown
        throw Error("FLUX_OUT_OF_MEMORY", "the buffers for activations (" + std::to_string(sizes.front() >> 20) +
                                              " MiB) could not be allocated; choose a smaller image, or free memory" +
                                              complaint());
    }
    size_t bytes = 0;
    for (const ggml_backend_ptr & backend : backends_)
        bytes += ggml_backend_sched_get_buffer_size(sched_.get(), backend.get());
    compute_bytes_ = bytes;
    graph_ = std::move(graph);
    key_ = key;
}

void Evaluator::set_inputs(const std::vector<Array> & inputs) {
    if (inputs.size() != graph_->inputs().size()) {
        throw Error("FLUX_BAD_SHAPE", std::to_string(inputs.size()) + " inputs were given, " +
                                          std::to_string(graph_->inputs().size()) + " are needed");
    }
    for (size_t i = 0; i < inputs.size(); i++) {
        const auto & [tensor, limit] = graph_->inputs()[i];
        const void * data = nullptr;
        size_t bytes = 0;
        if (tensor->type == GGML_TYPE_I32 && std::holds_alternative<std::vector<int32_t>>(inputs[i])) {
            const auto & values = std::get<std::vector<int32_t>>(inputs[i]);
            for (const int32_t value : values) {
                if (value < 0 || value >= limit) {
                    throw Error("FLUX_BAD_SHAPE", "input " + std::to_string(i) + " holds the index " +
                                                      std::to_string(value) + ", outside of 0 to " +
                                                      std::to_string(limit - 1));
                }
            }
            data = values.data();
            bytes = values.size() * sizeof(int32_t);
        } else if (tensor->type == GGML_TYPE_F32 && std::holds_alternative<std::vector<float>>(inputs[i])) {
            const auto & values = std::get<std::vector<float>>(inputs[i]);
            data = values.data();
            bytes = values.size() * sizeof(float);
        }
        if (!data || bytes != ggml_nbytes(tensor)) {
            throw Error("FLUX_BAD_SHAPE", "input " + std::to_string(i) + " has " + std::to_string(bytes) + " bytes, " +
                                              std::to_string(ggml_nbytes(tensor)) + " are needed");
        }
        if (tensor->buffer) ggml_backend_tensor_set(tensor, data, 0, bytes);  // no buffer: the graph does not use it
    }
}

// The CPU checks `cancel` between operations. A GPU checks it at stop points.
void Evaluator::compute(Recorder * recorder) {
    ggml_backend_t cpu = backends_.back().get();
    const auto set_abort = procedure<ggml_backend_set_abort_callback_t>(ggml_backend_dev_backend_reg(cpu_device()),
                                                                        "ggml_backend_set_abort_callback");
    EvalCallback callback = {graph_->stop_points(), cancel_, remote_, recorder};
    // If the RPC server is lost, this throws. Nothing may point to the local callback afterwards.
    struct Reset {
        const std::function<void()> reset;
        ~Reset() { reset(); }
    } const reset{[&] {
        if (set_abort) set_abort(cpu, nullptr, nullptr);
        ggml_backend_sched_set_eval_callback(sched_.get(), nullptr, nullptr);
    }};
    if (set_abort) set_abort(cpu, poll_cancel, const_cast<std::atomic<bool> *>(&cancel_));
    if (recorder || !on_cpu()) ggml_backend_sched_set_eval_callback(sched_.get(), EvalCallback::call, &callback);
    const ggml_status status = ggml_backend_sched_graph_compute(sched_.get(), graph_->nodes());

    working_bytes_held_ = std::max(working_bytes_held_, working_bytes_);
    if (cancel_) throw Aborted();
    if (status == GGML_STATUS_ALLOC_FAILED)
        throw Error("FLUX_OUT_OF_MEMORY", "memory ran out during the evaluation" + complaint());
    if (status != GGML_STATUS_SUCCESS)
        throw Error("FLUX_DEVICE",
                    std::string(ggml_backend_dev_name(device_)) + " failed during the evaluation" + complaint());
}

std::vector<std::vector<float>> Evaluator::run(const std::string & key, size_t max_nodes, const Build & build,
                                               const std::vector<Array> & inputs, size_t memory_limit,
                                               std::vector<ProfileRow> * profile) {
    if (cancel_) throw Aborted();
    prepare(key, max_nodes, build, memory_limit);
    set_inputs(inputs);
    Recorder recorder(*graph_, !on_cpu());
    compute(profile ? &recorder : nullptr);
    if (profile) *profile = recorder.operations();
    std::vector<std::vector<float>> outputs;
    for (ggml_tensor * tensor : graph_->outputs()) {
        outputs.emplace_back(ggml_nelements(tensor));
        ggml_backend_tensor_get(tensor, outputs.back().data(), 0, ggml_nbytes(tensor));
    }
    return outputs;
}

}  // namespace ggflux
