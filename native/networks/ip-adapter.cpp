#include "ip-adapter.hpp"

namespace ggflux {

namespace { constexpr float eps = 1e-5f; }

IpAdapter::IpAdapter(const Config & config, Weights & w)
    : clip_(config.get("clipEmbeddingsDim")), context_(config.get("contextDim", 1, 1 << 16)),
      hidden_(config.get("hiddenSize", 1, 1 << 16)), tokens_(config.get("numTokens", 1, 1 << 12)) {
    proj_ = w.linear("ip_adapter_proj_model.proj", clip_, tokens_ * context_);
    norm_ = w.layer_norm("ip_adapter_proj_model.norm", context_);
    for (int64_t i = 0; i < config.get("depth", 1, 1024); i++) {
        const std::string block = "double_blocks." + std::to_string(i) + ".processor.ip_adapter_double_stream_";
        blocks_.push_back(
            {w.linear(block + "k_proj", context_, hidden_), w.linear(block + "v_proj", context_, hidden_)});
    }
}

size_t IpAdapter::max_nodes() const {
    return 64 + linear_nodes + blocks_.size() * (2 * linear_nodes + attention_nodes + 16);
}

void IpAdapter::build(Graph & g, const std::string & mode, const Shape &) const {
    if (mode != "project") bad_mode(mode);
    g.output(project(g));
}

ggml_tensor * IpAdapter::project(Graph & g) const {
    ggml_tensor * x = linear(g, proj_, g.input({clip_, 1}));
    return layer_norm(g, norm_, ggml_reshape_2d(g.ctx(), x, context_, tokens_), eps);
}

ggml_tensor * IpAdapter::attend(Graph & g, size_t block, ggml_tensor * tokens, ggml_tensor * q) const {
    const Block & b = blocks_[block];
    const auto heads = [&](const Linear & proj) {
        return split_heads(g, linear(g, proj, tokens), 0, q->ne[0], q->ne[1]);
    };
    return attention(g, q, heads(b.k_proj), heads(b.v_proj), may_round(g, b.k_proj));
}

}  // namespace ggflux
