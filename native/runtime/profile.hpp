// What the operations of an evaluation cost.
#pragma once

#include "graph.hpp"

#include <chrono>
#include <unordered_set>

namespace ggflux {

// All operations of one kind in an evaluation.
struct Operation {
    std::string name, type;  // the graph's or ggml's name; the type of the first source
    int64_t count = 0;
    double seconds = 0, operations = 0, bytes = 0;  // multiplications and additions; bytes of sources and result
};

// Times the operations of one evaluation, one after the other.
class Recorder {
  public:
    // device: elementwise operations run together with the operation before them, and are timed with it
    Recorder(const Graph & graph, bool device);

    // Called before each operation. True if everything since the last `end` is to be computed up to this operation.
    bool wants(const ggml_tensor * operation);
    void end(const ggml_tensor * operation);

    std::vector<Operation> operations() { return std::move(operations_); }

  private:
    const std::unordered_map<const ggml_tensor *, Graph::Annotation> & annotations_;
    std::unordered_set<const ggml_tensor *> continued_;  // run together with the operation after them
    std::chrono::steady_clock::time_point began_;
    std::string run_;  // names of the operations since the last `end`
    double bytes_ = 0;
    std::vector<Operation> operations_;
};

// ggml's scheduler asks about every operation whether to stop after it, and calls again when it has stopped. May be cancelled there.
struct EvalCallback {
    const std::vector<ggml_tensor *> & stop_points;
    const std::atomic<bool> & cancel;
    bool remote;
    Recorder * recorder;  // or null

    static bool call(ggml_tensor * operation, bool ask, void * callback);
};

}  // namespace ggflux
