// XLabs' IP-Adapters for FLUX.1, after XLabs-AI/x-flux `src/flux/modules/layers.py`. The transformer evaluates them in
// its own graph (flux-attachments.hpp). By themselves:
//
// mode "project", shape []
// inputs: CLIP's embedding of an image [clip_embeddings_dim]
// output: the tokens of the image [num_tokens, context_dim]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class IpAdapter : public Network {
  public:
    IpAdapter(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override;

    // Declares the input embedding. [context_dim, num_tokens]
    ggml_tensor * project(Graph & g) const;

    // The attention of a double block's image queries q [head_dim, heads, L] to the image's tokens: [hidden, L]
    ggml_tensor * attend(Graph & g, size_t block, ggml_tensor * tokens, ggml_tensor * q) const;

    size_t depth() const { return blocks_.size(); }
    int64_t hidden() const { return hidden_; }

  private:
    struct Block {
        Linear k_proj, v_proj;
    };

    int64_t clip_, context_, hidden_, tokens_;
    Linear proj_;
    Norm norm_;
    std::vector<Block> blocks_;
};

}  // namespace ggflux
