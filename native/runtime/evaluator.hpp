// Evaluates graphs on a device.
#pragma once

#include "profile.hpp"

#include <functional>
#include <memory>
#include <variant>

namespace ggflux {

using Array = std::variant<std::vector<float>, std::vector<int32_t>>;
using Build = std::function<void(Graph &)>;

// One device, with the CPU for what it cannot do. The last graph and its buffers for activations are kept from call to call.
class Evaluator {
  public:
    // Setting `cancel` soon makes a running call throw Aborted; the flag must outlive the evaluator.
    Evaluator(const Machine & machine, const std::atomic<bool> & cancel);

    ggml_backend_dev_t device() const { return device_; }

    // Evaluates the graph that `build` makes and returns its outputs. `key` names the graph and its shape: while it stays the same, graph and buffers
    // are reused. Throws Error FLUX_OUT_OF_MEMORY if the buffers would take more than `memory_limit` bytes. With `profile` (or null), one operation
    // is done after the other and each is timed.
    std::vector<std::vector<float>> run(const std::string & key, size_t max_nodes, const Build & build,
                                        const std::vector<Array> & inputs, size_t memory_limit,
                                        std::vector<Operation> * profile);

    // The bytes of buffers that the graph needs; allocates none.
    size_t measure(size_t max_nodes, const Build & build);

    // The next evaluation builds its graph again.
    void forget_graph();

    // Frees the buffers for activations; the next evaluation allocates them again.
    void trim();

    size_t compute_bytes() const { return compute_bytes_; }
    int nodes() const { return graph_ ? ggml_graph_n_nodes(graph_->nodes()) : 0; }  // of the graph that is kept

  private:
    bool on_cpu() const { return is_cpu(device_); }
    void prepare(const std::string & key, size_t max_nodes, const Build & build, size_t memory_limit);
    std::vector<size_t> trial_sizes(size_t max_nodes, const Build & build);
    std::unique_ptr<Graph> make_graph(size_t max_nodes, const Build & build);
    void set_inputs(const std::vector<Array> & inputs);
    void compute(Recorder * recorder);

    ggml_backend_dev_t device_;
    bool remote_;  // on an RPC server
    int threads_;
    Precision precision_;
    const std::atomic<bool> & cancel_;
    std::vector<ggml_backend_ptr> backends_;  // the device first, the CPU last
    ggml_backend_sched_ptr sched_;
    size_t sched_nodes_ = 0;
    std::string key_;
    std::unique_ptr<Graph> graph_;
    std::atomic<size_t> compute_bytes_{0};
};

}  // namespace ggflux
