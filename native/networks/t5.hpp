// The encoder of T5 v1.1, after huggingface/transformers modeling_t5.py. It has no attention mask, does not scale the
// scores, and uses one table of relative position biases for all blocks.
//
// mode "encode", shape [n]; inputs: tokens [n], buckets of relative positions [n * n], query by query;
// output [n, d_model]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class T5 : public Network {
  public:
    T5(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 128 + (7 * linear_nodes + 64) * blocks_.size(); }

  private:
    struct Block {
        Linear q, k, v, o, wi_0, wi_1, wo;
        ggml_tensor *attention_norm, *ff_norm;
    };

    int64_t d_model_, d_kv_, heads_, d_ff_, vocab_, buckets_;
    ggml_tensor *shared_, *relative_attention_bias_, *final_norm_;
    std::vector<Block> blocks_;
};

}  // namespace ggflux
