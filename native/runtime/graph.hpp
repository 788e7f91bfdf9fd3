// Backends, buffers, graph evaluation, cancellation: the only file pair that knows ggml's backends.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace ggflux {

// A failure that TypeScript turns into a FluxError: the message begins with the code.
struct Error : std::runtime_error {
    Error(const std::string & code, const std::string & what) : std::runtime_error(code + ": " + what) {}
};

// Thrown where a cancelled call stops.
struct Aborted : std::runtime_error {
    Aborted() : std::runtime_error("FLUX_ABORTED") {}
};

struct DeviceInfo {
    std::string name, description, kind;  // kind: cpu, gpu, accelerator
    size_t memory_total = 0, memory_free = 0;
};

void load_backends(const std::string & directory);
std::vector<DeviceInfo> list_devices();

// Computes with `device` for who connects to host:port, one client after the other, until the process ends. Throws Error when it cannot listen.
void serve_rpc(const std::string & endpoint, const std::string & device, int threads);

struct BackendDeleter {
    void operator()(ggml_backend_t b) const { ggml_backend_free(b); }
};
struct SchedDeleter {
    void operator()(ggml_backend_sched_t s) const { ggml_backend_sched_free(s); }
};
struct BufferDeleter {
    void operator()(ggml_backend_buffer_t b) const { ggml_backend_buffer_free(b); }
};
struct ContextDeleter {
    void operator()(ggml_context * c) const { ggml_free(c); }
};
using BackendPtr = std::unique_ptr<ggml_backend, BackendDeleter>;
using SchedPtr = std::unique_ptr<ggml_backend_sched, SchedDeleter>;
using BufferPtr = std::unique_ptr<ggml_backend_buffer, BufferDeleter>;
using ContextPtr = std::unique_ptr<ggml_context, ContextDeleter>;

using Array = std::variant<std::vector<float>, std::vector<int32_t>>;
using Shape = std::vector<int64_t>;

// What activations may be rounded to. f32: to nothing, whatever the type of the weights. automatic: to bfloat16 or 8 bits beside weights of other
// types than F32 and F16. bf16: to bfloat16 beside all, and F32 and F16 weights themselves.
enum class Precision { automatic, f32, bf16 };

// A matrix of `out` rows that is up * down, or down alone.
struct Factor {
    ggml_tensor *down, *up;
};  // [in, rank], [rank, out]; or [in, out], nothing

// What is added to a matrix W or a vector v of the network, from row `first` on. W grows by scale * M, where M is `one` (product, difference), the
// elementwise product of `one` and `two`, or their Kronecker product. v grows by scale * d (difference) or scale * (d - v) (replacement), where d is
// `one`, a column. halves_swapped: the upper and the lower half of M or d change places first.
struct Adapter {
    enum class Kind { product, hadamard, kronecker, difference, replacement } kind;
    Factor one, two;
    float scale;
    int64_t first;
    bool halves_swapped;
};
using Adapters = std::unordered_map<const ggml_tensor *, std::vector<Adapter>>;  // by the matrix or vector

// A graph under construction: what the networks build with. Tensors that are made here live in `ctx`.
class Graph {
  public:
    // cpu_threads: 0 where the graph runs on another device, on which own kernels cannot be used; see Precision
    Graph(size_t max_nodes, ggml_backend_dev_t device, int cpu_threads, Precision precision, const Adapters & adapters,
          const std::atomic<bool> * cancel);

    ggml_tensor * input(std::initializer_list<int64_t> ne);  // F32, fastest dimension first
    ggml_tensor * indices(int64_t n, int64_t limit);         // I32 in [0, limit): checked before each evaluation
    void output(ggml_tensor * tensor);                       // copied out, in the order of the calls
    void
    before(std::initializer_list<ggml_tensor *>
               tensors);  // computed before what is built later, so that runs stay together that a GPU does at once
    void stop_point(ggml_tensor * tensor);  // where a call on a GPU may be cancelled; CPUs stop anywhere
    ggml_tensor * counts(ggml_tensor * tensor, const char * name,
                         double operations);  // what a profile tells of it; gives `tensor`

    ggml_context * ctx() const { return context_.get(); }
    int cpu_threads() const { return cpu_threads_; }
    bool on_cuda() const { return cuda_; }
    bool supported(const ggml_tensor * operation) const {
        return ggml_backend_dev_supports_op(device_, operation);
    }  // or else the CPU does it
    Precision precision() const { return precision_; }
    const std::vector<Adapter> & adapters(const ggml_tensor * weight) const;
    const std::atomic<bool> * cancel() const { return cancel_; }

  private:
    friend class Evaluator;
    struct Input {
        ggml_tensor * tensor;
        int64_t limit;
    };
    struct Count {
        const char * name;
        double operations;
    };
    ContextPtr context_;
    ggml_backend_dev_t device_;
    bool cuda_;
    int cpu_threads_;
    Precision precision_;
    const Adapters & adapters_;
    const std::atomic<bool> * cancel_;
    ggml_cgraph * graph_;
    std::vector<Input> inputs_;
    std::vector<ggml_tensor *> outputs_, stop_points_;
    std::unordered_map<const ggml_tensor *, Count> counts_;
};

// What one kind of operation cost in an evaluation.
struct Operation {
    std::string name, type;  // as the graph calls it, or ggml; the type of its first source
    int64_t count = 0;
    double seconds = 0, operations = 0, bytes = 0;  // multiplications and additions; bytes of sources and result
};

// What a network computes on. device: a name as list_devices() gives it, or rpc://host:port with /n for the server's n-th device.
struct Machine {
    std::string device;
    int threads;
    Precision precision;
    size_t device_memory = SIZE_MAX;  // bytes that the weights of a network may take on a device with memory of its own
};

// One device (with the CPU beside it for what the device cannot do), and the buffers for activations, kept from call to call.
class Evaluator {
  public:
    // A call that runs throws Aborted soon after `cancel` is set; the flag must outlive the evaluator.
    Evaluator(const Machine & machine, const std::atomic<bool> & cancel);
    ~Evaluator();

    ggml_backend_dev_t device() const { return device_; }
    bool on_cpu() const;

    // Evaluates what `build` makes. `key` names the graph and its shape: as long as it stays the same, graph and buffers are reused.
    // Throws Error FLUX_OUT_OF_MEMORY when the buffers would take more than `memory_limit` bytes. With `profile`, one operation is done after
    // the other, each timed.
    std::vector<std::vector<float>> run(const std::string & key, size_t max_nodes,
                                        const std::function<void(Graph &)> & build, const std::vector<Array> & inputs,
                                        size_t memory_limit, std::vector<Operation> * profile);

    // What linear layers have added from now on; the tensors must live until others are set.
    void set_adapters(Adapters adapters);

    // Frees the buffers for activations; the next evaluation allocates them again.
    void trim();

    // The bytes of buffers that the graph needs; allocates none.
    size_t measure(size_t max_nodes, const std::function<void(Graph &)> & build);

    size_t compute_bytes() const { return compute_bytes_; }

  private:
    class Recorder;
    struct Watch;

    void prepare(const std::string & key, size_t max_nodes, const std::function<void(Graph &)> & build,
                 size_t memory_limit);
    std::vector<size_t> trial_sizes(size_t max_nodes, const std::function<void(Graph &)> & build);
    std::unique_ptr<Graph> make_graph(size_t max_nodes, const std::function<void(Graph &)> & build);
    void set_inputs(const std::vector<Array> & inputs);
    void compute(Recorder * recorder);

    ggml_backend_dev_t device_;
    bool remote_;  // on an RPC server
    int threads_;
    Precision precision_;
    Adapters adapters_;
    size_t adapter_nodes_ = 0;
    const std::atomic<bool> & cancel_;
    std::vector<BackendPtr> backends_;  // the device first, the CPU last
    SchedPtr sched_;
    size_t sched_nodes_ = 0;
    std::string key_;
    std::unique_ptr<Graph> graph_;
    std::atomic<size_t> compute_bytes_{0};
};

}  // namespace ggflux
