// The cost of the operations in an evaluation.
#pragma once

#include "graph.hpp"

#include <chrono>
#include <unordered_set>

namespace ggflux {

// All operations of one kind in an evaluation.
struct ProfileRow {
    std::string name, type;  // name from the graph or from ggml; type of the first source
    int64_t count = 0;
    double seconds = 0, operations = 0, bytes = 0;  // multiplications and additions; bytes of sources and result
};

// Times the operations of one evaluation, one after the other.
class Recorder {
  public:
    // device: the graph runs on a device, where elementwise operations run together with the operation before them and
    // are timed with it
    Recorder(const Graph & graph, bool device);

    // Called before each operation. Returns true if everything since the last `end`, including this operation, should
    // be computed now.
    bool wants(const ggml_tensor * operation);
    void end(const ggml_tensor * operation);

    std::vector<ProfileRow> operations() { return std::move(operations_); }

  private:
    const std::unordered_map<const ggml_tensor *, Graph::Annotation> & annotations_;
    std::unordered_set<const ggml_tensor *> continued_;  // run together with the next operation
    std::chrono::steady_clock::time_point began_;
    std::string run_;  // names of the operations since the last `end`
    double bytes_ = 0;
    std::vector<ProfileRow> operations_;
};

// ggml's scheduler asks for each operation whether to stop after it, and calls again after it has stopped. The
// evaluation can be cancelled at these stops.
struct EvalCallback {
    const std::vector<ggml_tensor *> & stop_points;
    const std::atomic<bool> & cancel;
    bool remote;
    Recorder * recorder;  // or null

    static bool call(ggml_tensor * operation, bool ask, void * callback);
};

}  // namespace ggflux
