// RRDBNet, which enlarges images (ESRGAN, Real-ESRGAN), after XPixelGroup/BasicSR basicsr/archs/rrdbnet_arch.py.
//
// mode "upscale", shape [height, width] after s x s pixels have become channels (s: "unshuffle"); input: the image
// [3 s s, h, w] in 0 to 1; output: [3, 2^d h, 2^d w] in about 0 to 1 (d: "doublings")
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class Rrdb : public Network {
  public:
    Rrdb(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 512 * (blocks_.size() + 8); }

  private:
    static constexpr int dense_blocks = 3, dense_convolutions = 5;
    struct Dense {
        Conv conv[dense_convolutions];
    };
    struct Block {
        Dense rdb[dense_blocks];
    };

    ggml_tensor * run(Graph & g, const Dense & dense, ggml_tensor * x) const;
    ggml_tensor * run(Graph & g, const Block & block, ggml_tensor * x) const;

    int64_t features_, growth_, channels_;
    Conv conv_first_, conv_body_, conv_hr_, conv_last_;
    std::vector<Block> blocks_;
    std::vector<Conv> conv_up_;
};

}  // namespace ggflux
