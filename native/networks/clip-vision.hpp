// CLIP's vision tower with its projection, after huggingface/transformers modeling_clip.py
// (CLIPVisionModelWithProjection).
//
// mode "encode", no shape; input: the pixels of each patch [patches, 3 * patch * patch];
// output: the projected state of the class token [projection]
#pragma once

#include "encoder-layer.hpp"
#include "vision.hpp"

namespace ggflux {

class ClipVision : public Network {
  public:
    ClipVision(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 128 + 2 * linear_nodes + shape_.max_nodes(); }

  private:
    EncoderShape shape_;
    PatchEmbedding patches_;
    ggml_tensor *class_embedding_, *position_embedding_;
    Norm pre_layernorm_, post_layernorm_;
    std::vector<EncoderLayer> layers_;
    Linear visual_projection_;
};

}  // namespace ggflux
