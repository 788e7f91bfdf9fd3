#include "clip.hpp"
#include "runtime/error.hpp"

#include <cmath>

namespace ggflux {

namespace { constexpr float eps = 1e-5f; }

Clip::Clip(const Config & config, Weights & w)
    : hidden_(config.get("hiddenSize", 1, 1 << 16)), heads_(config.get("numHeads", 1, 1024)),
      intermediate_(config.get("intermediateSize", 1, 1 << 18)), vocab_(config.get("vocabSize")),
      max_positions_(config.get("maxPositions", 1, 4096)) {
    if (hidden_ % heads_ != 0) throw Error("FLUX_BAD_OPTION", "config.hiddenSize must be a multiple of numHeads");
    token_embedding_ = w.table("text_model.embeddings.token_embedding.weight", hidden_, vocab_);
    position_embedding_ = w.table("text_model.embeddings.position_embedding.weight", hidden_, max_positions_);
    for (int64_t i = 0; i < config.get("numLayers", 1, 1024); i++) {
        const std::string layer = "text_model.encoder.layers." + std::to_string(i) + ".";
        const auto projection = [&](const char * name) {
            return w.linear(layer + "self_attn." + name, hidden_, hidden_);
        };
        layers_.push_back({w.layer_norm(layer + "layer_norm1", hidden_), w.layer_norm(layer + "layer_norm2", hidden_),
                           projection("q_proj"), projection("k_proj"), projection("v_proj"), projection("out_proj"),
                           w.linear(layer + "mlp.fc1", hidden_, intermediate_),
                           w.linear(layer + "mlp.fc2", intermediate_, hidden_)});
    }
    final_layer_norm_ = w.layer_norm("text_model.final_layer_norm", hidden_);
}

void Clip::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "encode") bad_mode(mode);
    ggml_context * ctx = g.ctx();
    const int64_t n = dimension(shape, 0, 1, max_positions_, "the number of tokens");
    ggml_tensor * tokens = g.indices(n, vocab_);
    ggml_tensor * positions = g.indices(n, max_positions_);
    const float scale = 1.0f / std::sqrt(static_cast<float>(hidden_ / heads_));

    ggml_tensor * x =
        ggml_add(ctx, ggml_get_rows(ctx, token_embedding_, tokens), ggml_get_rows(ctx, position_embedding_, positions));
    for (const Layer & layer : layers_) {
        ggml_tensor * y = layer_norm(g, layer.layer_norm1, x, eps);
        const auto heads = [&](const Linear & projection) {
            return ggml_reshape_3d(ctx, linear(g, projection, y), hidden_ / heads_, heads_, n);
        };
        y = causal_attention(g, heads(layer.q), heads(layer.k), heads(layer.v), scale);
        x = ggml_add(ctx, x, linear(g, layer.out, y));

        y = layer_norm(g, layer.layer_norm2, x, eps);
        y = linear(g, layer.fc2, ggml_gelu_quick(ctx, linear(g, layer.fc1, y)));
        x = ggml_add(ctx, x, y);
        g.stop_point(x);
    }
    g.output(layer_norm(g, final_layer_norm_, x, eps));
}

}  // namespace ggflux
