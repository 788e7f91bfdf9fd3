// The autoencoder, after black-forest-labs/flux src/flux/modules/autoencoder.py.
//
// mode "decode", shape [height, width] of the latent; input: the latent as the sampler returns it [z, h, w];
// output: [3, 8 h, 8 w] in about -1 to 1
// mode "encode", shape [height, width] of the image; input: [3, H, W] in -1 to 1;
// output: the moments, mean then logvar [2 z, H/8, W/8]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class Autoencoder : public Network {
  public:
    Autoencoder(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override {
        return 512 + 4 * linear_nodes + attention_nodes + 1024 * levels_.size() * static_cast<size_t>(blocks_ + 2);
    }

  private:
    struct ResnetBlock {
        Norm norm1, norm2;
        Conv conv1, conv2, nin_shortcut;
    };
    struct AttnBlock {
        Norm norm;
        Conv q, k, v, proj_out;
    };
    struct Middle {
        ResnetBlock block_1, block_2;
        AttnBlock attn_1;
    };
    struct Level {
        std::vector<ResnetBlock> block;
        Conv resample;
    };  // empty in the level that is computed last
    struct Half {
        Conv conv_in, conv_out;
        Norm norm_out;
        Middle mid;
        std::vector<Level> levels;
    };

    ResnetBlock resnet_block(Weights & w, const std::string & name, int64_t in, int64_t out) const;
    Middle middle(Weights & w, const std::string & name, int64_t channels) const;

    ggml_tensor * resnet(Graph & g, const ResnetBlock & block, ggml_tensor * x, bool into_x = true) const;
    ggml_tensor * attend(Graph & g, const AttnBlock & block, ggml_tensor * x) const;
    ggml_tensor * run_middle(Graph & g, const Middle & mid, ggml_tensor * x) const;
    ggml_tensor * encode(Graph & g, ggml_tensor * x) const;
    ggml_tensor * decode(Graph & g, ggml_tensor * z) const;

    std::vector<int64_t> levels_;  // channels of each level, finest first
    int64_t blocks_, z_;
    float scale_factor_, shift_factor_;
    bool has_encoder_, has_decoder_;
    Half encoder_, decoder_;
};

}  // namespace ggflux
