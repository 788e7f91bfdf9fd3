// CLIP's text encoder, after huggingface/transformers modeling_clip.py.
//
// mode "encode", shape [n]; inputs: tokens [n], positions [n]; output: the states after the final norm [n, hidden]
#pragma once

#include "encoder-layer.hpp"

namespace ggflux {

class Clip : public Network {
  public:
    Clip(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 128 + shape_.max_nodes(); }

  private:
    EncoderShape shape_;
    int64_t vocab_, max_positions_;
    ggml_tensor *token_embedding_, *position_embedding_;
    std::vector<EncoderLayer> layers_;
    Norm final_layer_norm_;
};

}  // namespace ggflux
