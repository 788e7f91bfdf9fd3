#include "clip-vision.hpp"

namespace ggflux {

namespace { constexpr EncoderRules rules{1e-5f, false, true}; }

ClipVision::ClipVision(const Config & config, Weights & w) : shape_(config), patches_(config, w, shape_.hidden, false) {
    class_embedding_ = w.f32_tensor("vision_model.embeddings.class_embedding", {shape_.hidden});
    position_embedding_ =
        w.f32_tensor("vision_model.embeddings.position_embedding.weight", {shape_.hidden, patches_.count + 1});
    pre_layernorm_ = w.layer_norm("vision_model.pre_layrnorm", shape_.hidden);  // the official spelling
    layers_ = encoder_layers(w, "vision_model.encoder.layers.", shape_);
    post_layernorm_ = w.layer_norm("vision_model.post_layernorm", shape_.hidden);
    visual_projection_ = w.linear("visual_projection", shape_.hidden, config.get("projectionDim", 1, 1 << 16), false);
}

void ClipVision::build(Graph & g, const std::string & mode, const Shape &) const {
    if (mode != "encode") bad_mode(mode);
    ggml_context * ctx = g.ctx();
    ggml_tensor * x = ggml_concat(ctx, ggml_reshape_2d(ctx, class_embedding_, shape_.hidden, 1), patches_.embed(g), 1);
    x = layer_norm(g, pre_layernorm_, ggml_add(ctx, x, position_embedding_), rules.eps);
    ggml_tensor * class_token = columns(g, encode(g, layers_, shape_, rules, x), 0, 1);
    g.output(linear(g, visual_projection_, layer_norm(g, post_layernorm_, class_token, rules.eps)));
}

}  // namespace ggflux
