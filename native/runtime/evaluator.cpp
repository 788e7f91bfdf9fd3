#include "graph.hpp"

#include <ggml-rpc.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_set>

namespace ggflux {

namespace {

// What ggml last complained of on this thread, which is a task's own; it goes into the message of the error that follows.
thread_local std::string last_complaint;

void on_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_ERROR) return;
    last_complaint = text;
    while (!last_complaint.empty() && last_complaint.back() == '\n') last_complaint.pop_back();
}

std::string complaint() {
    std::string text = last_complaint.empty() ? "" : " (ggml: " + last_complaint + ")";
    last_complaint.clear();
    return text;
}

ggml_backend_dev_t cpu_device() {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!device)
        throw Error("FLUX_DEVICE",
                    "no CPU backend was loaded: the file libggml-cpu* is missing beside the addon; reinstall ggflux");
    return device;
}

BackendPtr start(ggml_backend_dev_t device) {
    BackendPtr backend(ggml_backend_dev_init(device, nullptr));
    if (!backend)
        throw Error("FLUX_DEVICE",
                    std::string("the device ") + ggml_backend_dev_name(device) + " could not be started" + complaint());
    return backend;
}

template <class Function> Function procedure(ggml_backend_t backend, const char * name) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(reg, name));
}

template <class Function> Function rpc_procedure(const char * name) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    if (!rpc) throw Error("FLUX_DEVICE", "the file libggml-rpc* is missing beside the addon; reinstall ggflux");
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(rpc, name));
}

constexpr const char * rpc_scheme = "rpc://";

bool is_rpc(const std::string & device) { return device.compare(0, std::strlen(rpc_scheme), rpc_scheme) == 0; }

ggml_backend_dev_t find_device(const std::string & name) {
    if (!is_rpc(name)) return ggml_backend_dev_by_name(name.c_str());
    const size_t begin = std::strlen(rpc_scheme), slash = name.find('/', begin);
    const std::string endpoint = name.substr(begin, slash - begin);
    const unsigned long index = slash == std::string::npos ? 0 : std::strtoul(name.c_str() + slash + 1, nullptr, 10);
    ggml_backend_reg_t server =
        rpc_procedure<decltype(&ggml_backend_rpc_add_server)>("ggml_backend_rpc_add_server")(endpoint.c_str());
    const size_t count = server ? ggml_backend_reg_dev_count(server) : 0;
    if (index >= count)
        throw Error("FLUX_DEVICE", name + ": the RPC server has " + std::to_string(count) + " devices, counted from 0");
    return ggml_backend_reg_dev_get(server, index);
}

bool poll_cancel(void * flag) { return static_cast<const std::atomic<bool> *>(flag)->load(std::memory_order_relaxed); }

}  // namespace

void load_backends(const std::string & directory) {
    static std::once_flag once;
    std::call_once(once, [&] {
        ggml_log_set(on_log, nullptr);
        ggml_backend_load_all_from_path(directory.c_str());
    });
}

std::vector<DeviceInfo> list_devices() {
    std::vector<DeviceInfo> devices;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_props props{};
        ggml_backend_dev_get_props(ggml_backend_dev_get(i), &props);
        const bool gpu = props.type == GGML_BACKEND_DEVICE_TYPE_GPU || props.type == GGML_BACKEND_DEVICE_TYPE_IGPU;
        const bool cpu = props.type == GGML_BACKEND_DEVICE_TYPE_CPU;
        devices.push_back({props.name ? props.name : "", props.description ? props.description : "",
                           gpu   ? "gpu"
                           : cpu ? "cpu"
                                 : "accelerator",
                           props.memory_total, props.memory_free});
    }
    return devices;
}

void serve_rpc(const std::string & endpoint, const std::string & device, int threads) {
    ggml_backend_dev_t served = ggml_backend_dev_by_name(device.c_str());
    if (!served) throw Error("FLUX_DEVICE", "there is no device named " + device + "; devices() tells which there are");
    const auto serve = rpc_procedure<decltype(&ggml_backend_rpc_start_server)>("ggml_backend_rpc_start_server");
    serve(endpoint.c_str(), nullptr, static_cast<size_t>(std::max(1, threads)), 1, &served);
    throw Error("FLUX_DEVICE", "nobody can be served at " + endpoint +
                                   ": another program may use the port; choose another" + complaint());
}

// ---- Graph ----

Graph::Graph(size_t max_nodes, ggml_backend_dev_t device, int cpu_threads, Precision precision,
             const Adapters & adapters, const std::atomic<bool> * cancel)
    : device_(device), cuda_(std::strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), "CUDA") == 0),
      cpu_threads_(cpu_threads), precision_(precision), adapters_(adapters), cancel_(cancel) {
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

const std::vector<Adapter> & Graph::adapters(const ggml_tensor * weight) const {
    static const std::vector<Adapter> none;
    const auto found = adapters_.find(weight);
    return found == adapters_.end() ? none : found->second;
}

ggml_tensor * Graph::counts(ggml_tensor * tensor, const char * name, double operations) {
    counts_[tensor] = {name, operations};
    return tensor;
}

// ---- Evaluator ----

Evaluator::Evaluator(const Machine & machine, const std::atomic<bool> & cancel)
    : remote_(is_rpc(machine.device)), threads_(std::max(1, machine.threads)), precision_(machine.precision),
      cancel_(cancel) {
    device_ = find_device(machine.device);
    if (!device_)
        throw Error("FLUX_DEVICE", "there is no device named " + machine.device + "; devices() tells which there are");
    backends_.push_back(start(device_));
    if (!on_cpu()) backends_.push_back(start(cpu_device()));
    if (auto set = procedure<ggml_backend_set_n_threads_t>(backends_.back().get(), "ggml_backend_set_n_threads")) {
        set(backends_.back().get(), threads_);
    }
}

Evaluator::~Evaluator() = default;

bool Evaluator::on_cpu() const { return ggml_backend_dev_type(device_) == GGML_BACKEND_DEVICE_TYPE_CPU; }

std::unique_ptr<Graph> Evaluator::make_graph(size_t max_nodes, const std::function<void(Graph &)> & build) {
    auto graph = std::make_unique<Graph>(max_nodes, device_, on_cpu() ? threads_ : 0, precision_, adapters_, &cancel_);
    build(*graph);
    ggml_backend_sched_reset(sched_.get());
    return graph;
}

// What each backend's buffer will take, of a graph of its own, because splitting a graph between devices rewires it.
std::vector<size_t> Evaluator::trial_sizes(size_t max_nodes, const std::function<void(Graph &)> & build) {
    graph_.reset();
    key_.clear();
    if (sched_nodes_ < max_nodes) {
        std::vector<ggml_backend_t> backends;
        for (const BackendPtr & backend : backends_) backends.push_back(backend.get());
        compute_bytes_ = 0;
        sched_.reset();
        sched_.reset(ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()), max_nodes * 2,
                                            false, /*op_offload=*/true));
        sched_nodes_ = max_nodes;
    }
    std::vector<size_t> sizes(backends_.size(), 0);
    ggml_backend_sched_reserve_size(sched_.get(), make_graph(max_nodes, build)->graph_, sizes.data());
    return sizes;
}

void Evaluator::set_adapters(Adapters adapters) {
    graph_.reset();  // made with those before
    key_.clear();
    adapters_ = std::move(adapters);
    adapter_nodes_ = 0;
    for (const auto & [weight, list] : adapters_) adapter_nodes_ += 32 * list.size();
}

void Evaluator::trim() {
    graph_.reset();
    key_.clear();
    sched_.reset();
    sched_nodes_ = 0;
    compute_bytes_ = 0;
}

size_t Evaluator::measure(size_t max_nodes, const std::function<void(Graph &)> & build) {
    size_t bytes = 0;
    for (const size_t size : trial_sizes(max_nodes, build)) bytes += size;
    return bytes;
}

void Evaluator::prepare(const std::string & key, size_t max_nodes, const std::function<void(Graph &)> & build,
                        size_t memory_limit) {
    if (graph_ && key == key_) return;
    const std::vector<size_t> sizes = trial_sizes(max_nodes, build);
    const auto refuse = [&](size_t need, size_t limit, const char * where) {
        throw Error("FLUX_OUT_OF_MEMORY", "this size needs " + std::to_string(need >> 20) + " MiB of " + where +
                                              " for activations and " + std::to_string(limit >> 20) +
                                              " MiB are free; choose a smaller picture, or free memory");
    };
    // Buffers that are kept from an earlier shape are reused, not added.
    if (sizes.back() > memory_limit + compute_bytes_) refuse(sizes.back(), memory_limit + compute_bytes_, "memory");
    if (!on_cpu()) {
        size_t free = 0, total = 0;
        ggml_backend_dev_memory(device_, &free, &total);
        const size_t held = ggml_backend_sched_get_buffer_size(sched_.get(), backends_.front().get());
        if (total && sizes.front() > free + held) refuse(sizes.front(), free + held, "the device's memory");
    }

    const bool reserved = ggml_backend_sched_reserve(sched_.get(), make_graph(max_nodes, build)->graph_);
    auto graph = make_graph(max_nodes, build);
    if (!reserved || !ggml_backend_sched_alloc_graph(sched_.get(), graph->graph_)) {
        trim();  // the buffers are in an unknown state
        throw Error("FLUX_OUT_OF_MEMORY", "the buffers for activations (" + std::to_string(sizes.front() >> 20) +
                                              " MiB) could not be allocated; choose a smaller picture, or free memory" +
                                              complaint());
    }
    size_t bytes = 0;
    for (const BackendPtr & backend : backends_)
        bytes += ggml_backend_sched_get_buffer_size(sched_.get(), backend.get());
    compute_bytes_ = bytes;
    graph_ = std::move(graph);
    key_ = key;
}

void Evaluator::set_inputs(const std::vector<Array> & inputs) {
    if (inputs.size() != graph_->inputs_.size()) {
        throw Error("FLUX_BAD_SHAPE", std::to_string(inputs.size()) + " inputs were given, " +
                                          std::to_string(graph_->inputs_.size()) + " are needed");
    }
    for (size_t i = 0; i < inputs.size(); i++) {
        const auto & [tensor, limit] = graph_->inputs_[i];
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

// Sums up what the operations of one evaluation cost.
class Evaluator::Recorder {
  public:
    // device: whether elementwise operations are run together with what they follow, and timed so
    Recorder(const Graph & graph, bool device) : counts_(graph.counts_) {
        for (int i = 0; device && i + 1 < ggml_graph_n_nodes(graph.graph_); i++) {
            const ggml_tensor *node = ggml_graph_node(graph.graph_, i), *next = ggml_graph_node(graph.graph_, i + 1);
            const bool follows = next->op == GGML_OP_ADD || next->op == GGML_OP_MUL || next->op == GGML_OP_UNARY ||
                                 next->op == GGML_OP_CPY || next->op == GGML_OP_ROPE;
            if (follows && node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_FLASH_ATTN_EXT &&
                (next->src[0] == node || next->src[1] == node))
                goes_on_.insert(node);
        }
    }

    // Called before every operation; true where what began is to be computed up to this one.
    bool wants(const ggml_tensor * t) {
        if (run_.empty()) began_ = std::chrono::steady_clock::now();
        if (!is_view(t)) {
            const auto found = counts_.find(t);
            const std::string name = found != counts_.end()    ? found->second.name
                                     : t->op == GGML_OP_CUSTOM ? "packing"
                                                               : ggml_op_desc(t);
            run_ += run_.empty() ? name : "+" + name;
            bytes_ += static_cast<double>(ggml_nbytes(t));
            for (const ggml_tensor * source : t->src) {
                if (source) bytes_ += static_cast<double>(ggml_nbytes(source));
            }
        }
        return !goes_on_.count(t);
    }

    void end(const ggml_tensor * t) {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
        const std::string name = std::move(run_);
        const double bytes = bytes_;
        run_.clear();
        bytes_ = 0;
        if (name.empty()) return;
        const std::string type = t->src[0] ? ggml_type_name(t->src[0]->type) : "";
        auto sum = std::find_if(operations_.begin(), operations_.end(),
                                [&](const Operation & o) { return o.name == name && o.type == type; });
        if (sum == operations_.end()) sum = operations_.insert(sum, {name, type});
        sum->count++;
        sum->seconds += seconds;
        const auto found = counts_.find(t);
        if (found != counts_.end()) sum->operations += found->second.operations;
        sum->bytes += bytes;
    }

    std::vector<Operation> operations() { return std::move(operations_); }

  private:
    static bool is_view(const ggml_tensor * t) {
        return t->op == GGML_OP_NONE || t->op == GGML_OP_VIEW || t->op == GGML_OP_RESHAPE || t->op == GGML_OP_PERMUTE ||
               t->op == GGML_OP_TRANSPOSE;
    }

    const std::unordered_map<const ggml_tensor *, Graph::Count> & counts_;
    std::unordered_set<const ggml_tensor *> goes_on_;
    std::chrono::steady_clock::time_point began_;
    std::string run_;  // what was begun and not ended
    double bytes_ = 0;
    std::vector<Operation> operations_;
};

// What the scheduler's callback looks at: asked of each operation whether it wants to be called after it, then called.
struct Evaluator::Watch {
    const std::vector<ggml_tensor *> & stop_points;
    const std::atomic<bool> & cancel;
    bool remote;
    Recorder * recorder;

    bool wanted(const ggml_tensor * tensor) const {
        if (!recorder) return std::find(stop_points.begin(), stop_points.end(), tensor) != stop_points.end();
        return recorder->wants(tensor);
    }

    bool go_on(const ggml_tensor * tensor) const {
        // A server acknowledges work when it has come, not when it is done: only reading waits for it.
        float first;
        if (remote) ggml_backend_tensor_get(tensor, &first, 0, sizeof(first));
        if (recorder) recorder->end(tensor);
        return !cancel.load(std::memory_order_relaxed);
    }

    static bool callback(ggml_tensor * tensor, bool ask, void * watch) {
        return ask ? static_cast<const Watch *>(watch)->wanted(tensor)
                   : static_cast<const Watch *>(watch)->go_on(tensor);
    }
};

// The CPU polls between operations. A GPU is given work up to the next stop point and asked there.
void Evaluator::compute(Recorder * recorder) {
    ggml_backend_t cpu = backends_.back().get();
    const auto set_abort = procedure<ggml_backend_set_abort_callback_t>(cpu, "ggml_backend_set_abort_callback");
    Watch watch = {graph_->stop_points_, cancel_, remote_, recorder};
    // A lost RPC server throws: nothing may point to the local watch afterwards.
    struct Reset {
        const std::function<void()> reset;
        ~Reset() { reset(); }
    } const reset{[&] {
        if (set_abort) set_abort(cpu, nullptr, nullptr);
        ggml_backend_sched_set_eval_callback(sched_.get(), nullptr, nullptr);
    }};
    if (set_abort) set_abort(cpu, poll_cancel, const_cast<std::atomic<bool> *>(&cancel_));
    if (recorder || !on_cpu()) ggml_backend_sched_set_eval_callback(sched_.get(), Watch::callback, &watch);
    const ggml_status status = ggml_backend_sched_graph_compute(sched_.get(), graph_->graph_);

    if (cancel_) throw Aborted();
    if (status == GGML_STATUS_ALLOC_FAILED)
        throw Error("FLUX_OUT_OF_MEMORY", "memory ran out during the evaluation" + complaint());
    if (status != GGML_STATUS_SUCCESS)
        throw Error("FLUX_DEVICE",
                    std::string(ggml_backend_dev_name(device_)) + " failed during the evaluation" + complaint());
}

std::vector<std::vector<float>> Evaluator::run(const std::string & key, size_t max_nodes,
                                               const std::function<void(Graph &)> & build,
                                               const std::vector<Array> & inputs, size_t memory_limit,
                                               std::vector<Operation> * profile) {
    if (cancel_) throw Aborted();
    prepare(key, max_nodes + adapter_nodes_, build, memory_limit);
    set_inputs(inputs);
    Recorder recorder(*graph_, !on_cpu());
    compute(profile ? &recorder : nullptr);
    if (profile) *profile = recorder.operations();
    std::vector<std::vector<float>> outputs;
    for (ggml_tensor * tensor : graph_->outputs_) {
        outputs.emplace_back(ggml_nelements(tensor));
        ggml_backend_tensor_get(tensor, outputs.back().data(), 0, ggml_nbytes(tensor));
    }
    return outputs;
}

}  // namespace ggflux
