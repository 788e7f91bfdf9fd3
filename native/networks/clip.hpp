// CLIP's text encoder, after huggingface/transformers modeling_clip.py.
//
// mode "encode", shape [n]; inputs: tokens [n], positions [n]; output: the states after the final norm [n, hidden]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class Clip : public Network {
  public:
    Clip(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 128 + (7 * linear_nodes + 64) * layers_.size(); }

  private:
    struct Layer {
        Norm layer_norm1, layer_norm2;
        Linear q, k, v, out, fc1, fc2;
    };

    int64_t hidden_, heads_, intermediate_, vocab_, max_positions_;
    ggml_tensor *token_embedding_, *position_embedding_;
    std::vector<Layer> layers_;
    Norm final_layer_norm_;
};

}  // namespace ggflux
