// A graph under construction, which the networks add operations to.
#pragma once

#include "devices.hpp"

#include <ggml-cpp.h>

#include <atomic>
#include <unordered_map>
#include <vector>

namespace ggflux {

struct Adapters;
struct Attachments;

class Graph {
  public:
    struct Input {
        ggml_tensor * tensor;
        int64_t limit;  // upper bound for indices
    };
    struct Annotation {
        const char * name;
        double operations;
    };

    // cpu_threads: 0 if the graph runs on another device, where our own kernels cannot run
    Graph(size_t max_nodes, ggml_backend_dev_t device, int cpu_threads, Precision precision,
          const std::atomic<bool> * cancel);

    ggml_tensor * input(std::initializer_list<int64_t> ne);  // F32, fastest dimension first
    ggml_tensor * indices(int64_t n, int64_t limit);         // I32 in [0, limit): checked before each evaluation
    void output(ggml_tensor * tensor);                       // copied out, in the order of the calls

    // On a GPU these tensors are computed before anything that is built later. Operations that the GPU can fuse are
    // then next to each other.
    void before(std::initializer_list<ggml_tensor *> tensors);
    // Where a call on a GPU can be cancelled. CPUs can stop anywhere.
    void stop_point(ggml_tensor * tensor);
    // Sets the name and the cost of `tensor` in a profile. Returns `tensor`.
    ggml_tensor * annotate(ggml_tensor * tensor, const char * name, double operations);
    // The weight, as F32 if the precision is f32. ggml rounds activations to match the type of the weight.
    ggml_tensor * unrounded(ggml_tensor * weight);

    void adapt(const Adapters & adapters) { adapters_ = &adapters; }
    void attach(const Attachments & attachments) { attachments_ = &attachments; }

    ggml_context * ctx() const { return context_.get(); }
    ggml_cgraph * nodes() const { return graph_; }
    int cpu_threads() const { return cpu_threads_; }
    bool on_cuda() const { return cuda_; }
    // The device multiplies in half precision, with sums in F32 if asked to: Vulkan and Metal, see docs/architecture.md.
    bool halves() const { return halves_; }
    bool supported(const ggml_tensor * operation) const { return ggml_backend_dev_supports_op(device_, operation); }
    Precision precision() const { return precision_; }
    const Adapters * adapters() const { return adapters_; }           // or null
    const Attachments * attachments() const { return attachments_; }  // or null
    const std::atomic<bool> * cancel() const { return cancel_; }
    const std::vector<Input> & inputs() const { return inputs_; }
    const std::vector<ggml_tensor *> & outputs() const { return outputs_; }
    const std::vector<ggml_tensor *> & stop_points() const { return stop_points_; }
    const std::unordered_map<const ggml_tensor *, Annotation> & annotations() const { return annotations_; }

  private:
    ggml_context_ptr context_;
    ggml_backend_dev_t device_;
    bool cuda_, halves_;
    int cpu_threads_;
    Precision precision_;
    const Adapters * adapters_ = nullptr;
    const Attachments * attachments_ = nullptr;
    const std::atomic<bool> * cancel_;
    ggml_cgraph * graph_;
    std::vector<Input> inputs_;
    std::vector<ggml_tensor *> outputs_, stop_points_;
    std::unordered_map<const ggml_tensor *, Annotation> annotations_;
};

}  // namespace ggflux
