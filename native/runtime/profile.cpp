#include "profile.hpp"

#include <algorithm>

namespace ggflux {

namespace {

bool is_view(const ggml_tensor * t) {
    return t->op == GGML_OP_NONE || t->op == GGML_OP_VIEW || t->op == GGML_OP_RESHAPE || t->op == GGML_OP_PERMUTE ||
           t->op == GGML_OP_TRANSPOSE;
}

}  // namespace

Recorder::Recorder(const Graph & graph, bool device) : annotations_(graph.annotations()) {
    for (int i = 0; device && i + 1 < ggml_graph_n_nodes(graph.nodes()); i++) {
        const ggml_tensor *node = ggml_graph_node(graph.nodes(), i), *next = ggml_graph_node(graph.nodes(), i + 1);
        const bool follows = next->op == GGML_OP_ADD || next->op == GGML_OP_MUL || next->op == GGML_OP_UNARY ||
                             next->op == GGML_OP_CPY || next->op == GGML_OP_ROPE;
        if (follows && node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_FLASH_ATTN_EXT &&
            (next->src[0] == node || next->src[1] == node))
            continued_.insert(node);
    }
}

bool Recorder::wants(const ggml_tensor * t) {
    if (run_.empty()) began_ = std::chrono::steady_clock::now();
    if (!is_view(t)) {
        const auto found = annotations_.find(t);
        const std::string name = found != annotations_.end() ? found->second.name
                                 : t->op == GGML_OP_CUSTOM   ? "packing"
                                                             : ggml_op_desc(t);
        run_ += run_.empty() ? name : "+" + name;
        bytes_ += static_cast<double>(ggml_nbytes(t));
        for (const ggml_tensor * source : t->src) {
            if (source) bytes_ += static_cast<double>(ggml_nbytes(source));
        }
    }
    return !continued_.count(t);
}

void Recorder::end(const ggml_tensor * t) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    const std::string name = std::move(run_);
    const double bytes = bytes_;
    run_.clear();
    bytes_ = 0;
    if (name.empty()) return;
    const std::string type = t->src[0] ? ggml_type_name(t->src[0]->type) : "";
    auto sum = std::find_if(operations_.begin(), operations_.end(),
                            [&](const ProfileRow & o) { return o.name == name && o.type == type; });
    if (sum == operations_.end()) sum = operations_.insert(sum, {name, type});
    sum->count++;
    sum->seconds += seconds;
    const auto found = annotations_.find(t);
    if (found != annotations_.end()) sum->operations += found->second.operations;
    sum->bytes += bytes;
}

bool EvalCallback::call(ggml_tensor * operation, bool ask, void * callback) {
    const auto & [stop_points, cancel, remote, recorder] = *static_cast<const EvalCallback *>(callback);
    if (ask) {
        if (recorder) return recorder->wants(operation);
        return std::find(stop_points.begin(), stop_points.end(), operation) != stop_points.end();
    }
    // An RPC server acknowledges work when it arrives, not when it is finished. Reading a number waits until it is
    // finished.
    float first;
    if (remote) ggml_backend_tensor_get(operation, &first, 0, sizeof(first));
    if (recorder) recorder->end(operation);
    return !cancel.load(std::memory_order_relaxed);
}

}  // namespace ggflux
