// The patches of an image as tokens, the first layer of a vision tower.
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

struct PatchEmbedding {
    Linear projection;  // the weight is a convolution's: [patch, patch, 3, hidden]
    int64_t patch, count;

    PatchEmbedding(const Config & config, Weights & w, int64_t hidden, bool bias);
    // Declares the input: the pixels of each patch, channel by channel [count, 3 * patch * patch] -> [hidden, count]
    ggml_tensor * embed(Graph & g) const;
};

}  // namespace ggflux
