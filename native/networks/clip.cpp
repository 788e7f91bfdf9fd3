#include "clip.hpp"

namespace ggflux {

namespace { constexpr EncoderRules rules{1e-5f, true, true}; }

Clip::Clip(const Config & config, Weights & w)
    : shape_(config), vocab_(config.get("vocabSize")), max_positions_(config.get("maxPositions", 1, 4096)) {
    token_embedding_ = w.table("text_model.embeddings.token_embedding.weight", shape_.hidden, vocab_);
    position_embedding_ = w.table("text_model.embeddings.position_embedding.weight", shape_.hidden, max_positions_);
    layers_ = encoder_layers(w, "text_model.encoder.layers.", shape_);
    final_layer_norm_ = w.layer_norm("text_model.final_layer_norm", shape_.hidden);
}

void Clip::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "encode") bad_mode(mode);
    ggml_context * ctx = g.ctx();
    const int64_t n = dimension(shape, 0, 1, max_positions_, "the number of tokens");
    ggml_tensor * tokens = g.indices(n, vocab_);
    ggml_tensor * positions = g.indices(n, max_positions_);
    ggml_tensor * x =
        ggml_add(ctx, ggml_get_rows(ctx, token_embedding_, tokens), ggml_get_rows(ctx, position_embedding_, positions));
    g.output(layer_norm(g, final_layer_norm_, encode(g, layers_, shape_, rules, x), rules.eps));
}

}  // namespace ggflux
