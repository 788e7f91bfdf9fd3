// Evaluates graphs on a device.
#pragma once

#include "profile.hpp"

#include <functional>
#include <memory>
#include <variant>

namespace ggflux {

using Array = std::variant<std::vector<float>, std::vector<int32_t>>;
using Build = std::function<void(Graph &)>;

// Evaluates on one device, and uses the CPU for operations that the device does not support. It keeps the last graph
// and its activation buffers between calls.
class Evaluator {
  public:
    // If `cancel` is set, a running call soon throws Aborted. The flag must outlive the evaluator.
    Evaluator(const Machine & machine, const std::atomic<bool> & cancel);

    ggml_backend_dev_t device() const { return device_; }

    // Evaluates the graph that `build` creates and returns its outputs. `key` identifies the graph and its shape. While
    // the key stays the same, graph and buffers are reused. Throws Error FLUX_OUT_OF_MEMORY if the buffers need more
    // than `memory_limit` bytes. With `profile` (can be null), operations run one after the other, and each one is
    // timed.
    std::vector<std::vector<float>> run(const std::string & key, size_t max_nodes, const Build & build,
                                        const std::vector<Array> & inputs, size_t memory_limit,
                                        std::vector<ProfileRow> * profile);

    // The bytes of buffers that the graph needs. Allocates nothing.
    size_t measure(size_t max_nodes, const Build & build);

    // The next evaluation builds its graph again.
    void forget_graph();

    // Frees the activation buffers. The next evaluation allocates them again.
    void trim();

    size_t compute_bytes() const { return compute_bytes_; }
    // In the graph that is kept.
    int nodes() const { return graph_ ? ggml_graph_n_nodes(graph_->nodes()) : 0; }

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
    size_t working_bytes_ = 0;       // which CUDA will allocate during an evaluation of the graph built last
    size_t working_bytes_held_ = 0;  // which it keeps from previous evaluations
};

}  // namespace ggflux
