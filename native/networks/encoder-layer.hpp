// A layer of the encoders of CLIP and SigLIP, text and vision: attention and an MLP, each after a norm and added to its
// input. After huggingface/transformers modeling_clip.py and modeling_siglip.py.
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

struct EncoderLayer {
    Norm layer_norm1, layer_norm2;
    Linear q, k, v, out, fc1, fc2;
};

struct EncoderShape {
    int64_t hidden, heads, intermediate, layers;
    explicit EncoderShape(const Config & config);
    size_t max_nodes() const { return (7 * linear_nodes + attention_nodes + 64) * layers; }
};

struct EncoderRules {
    float eps;
    bool causal;      // each token sees only the tokens up to itself
    bool quick_gelu;  // x sigmoid(1.702 x) instead of the tanh form of GELU
};

// the layers `prefix`0, `prefix`1, …
std::vector<EncoderLayer> encoder_layers(Weights & w, const std::string & prefix, const EncoderShape & shape);
// x [hidden, n] -> [hidden, n]
ggml_tensor * encode(Graph & g, const std::vector<EncoderLayer> & layers, const EncoderShape & shape,
                     const EncoderRules & rules, ggml_tensor * x);

}  // namespace ggflux
