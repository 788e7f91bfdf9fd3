#include "siglip.hpp"

namespace ggflux {

namespace { constexpr EncoderRules rules{1e-6f, false, false}; }

Siglip::Siglip(const Config & config, Weights & w)
    : shape_(config), patches_(config, w, shape_.hidden, true),
      position_embedding_(
          w.f32_tensor("vision_model.embeddings.position_embedding.weight", {shape_.hidden, patches_.count})),
      layers_(encoder_layers(w, "vision_model.encoder.layers.", shape_)),
      post_layernorm_(w.layer_norm("vision_model.post_layernorm", shape_.hidden)) {}

void Siglip::build(Graph & g, const std::string & mode, const Shape &) const {
    if (mode != "encode") bad_mode(mode);
    ggml_tensor * x = ggml_add(g.ctx(), patches_.embed(g), position_embedding_);
    g.output(layer_norm(g, post_layernorm_, encode(g, layers_, shape_, rules, x), rules.eps));
}

}  // namespace ggflux
