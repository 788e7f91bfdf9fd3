// SigLIP's vision tower, after huggingface/transformers modeling_siglip.py, without its pooling head.
//
// mode "encode", no shape; input: the pixels of each patch [patches, 3 * patch * patch];
// output: the states after the final norm [patches, hidden]
#pragma once

#include "encoder-layer.hpp"
#include "vision.hpp"

namespace ggflux {

class Siglip : public Network {
  public:
    Siglip(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 128 + linear_nodes + shape_.max_nodes(); }

  private:
    EncoderShape shape_;
    PatchEmbedding patches_;
    ggml_tensor * position_embedding_;
    std::vector<EncoderLayer> layers_;
    Norm post_layernorm_;
};

}  // namespace ggflux
