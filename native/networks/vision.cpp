#include "vision.hpp"

namespace ggflux {

PatchEmbedding::PatchEmbedding(const Config & config, Weights & w, int64_t hidden, bool bias)
    : patch(config.get("patchSize", 1, 256)), count(config.get("patches", 1, 1 << 14)) {
    const std::string name = "vision_model.embeddings.patch_embedding.";
    projection.weight = w.f32_tensor(name + "weight", {patch, patch, 3, hidden});
    if (bias) projection.bias = w.f32_tensor(name + "bias", {hidden});
}

// Patches do not overlap, so the convolution is a product with each of them.
ggml_tensor * PatchEmbedding::embed(Graph & g) const {
    const int64_t width = 3 * patch * patch;
    ggml_tensor * weight = ggml_reshape_2d(g.ctx(), projection.weight, width, projection.weight->ne[3]);
    return linear(g, {weight, projection.bias}, g.input({width, count}));
}

}  // namespace ggflux
