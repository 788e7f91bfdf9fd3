// The decoder of TAEF1, a small autoencoder that replaces the large one for previews, after madebyollin/taesd taesd.py
// and diffusers' AutoencoderTiny.
//
// mode "decode", shape [height, width] of the latent; input: the latent as the sampler returns it [z, h, w];
// output: [3, 8 h, 8 w] in about -1 to 1
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class TinyDecoder : public Network {
  public:
    TinyDecoder(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 8192; }

  private:
    struct Block {
        Conv conv_0, conv_2, conv_4;
    };
    struct Stage {
        std::vector<Block> blocks;
        ggml_tensor * resample;
    };  // the convolution after the upsampling has no bias

    Block block(Weights & w, int64_t layer) const;
    ggml_tensor * run(Graph & g, const Block & block, ggml_tensor * x) const;

    int64_t z_, width_;
    Conv conv_in_, conv_out_;
    std::vector<Stage> stages_;
    Block last_;
};

}  // namespace ggflux
