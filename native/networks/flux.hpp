// The FLUX.1 transformer, after black-forest-labs/flux src/flux/model.py and modules/layers.py.
//
// mode "predict", shape [L, T, axes, biased], then the attachments': L image tokens, T text tokens. axes: bit i is set if
// the positions on axis i are not all zero. biased: 1 with an attention bias, else 0 or missing.
// inputs: img [L, in_channels], txt [T, context_in_dim], vec [vec_in_dim], sinusoid of the timestep [256],
//         with guidance_embed the sinusoid of the guidance [256],
//         then for each axis that is set the positions of all tokens, text first [T + L] (I32),
//         then, if biased, what is added to the scores of the text tokens: a row for each text token that attends to
//         them, and one for all image tokens [T + 1, T],
//         then those of the attachments, see flux-attachments.hpp
// output: [L, out_channels]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

#include <functional>

namespace ggflux {

class Flux : public Network {
  public:
    Flux(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override;
    size_t attached_nodes(const Attachments & attachments, const Shape & shape) const override;

    struct Rotary {
        std::vector<ggml_tensor *> positions;
    };
    // The positions of text and image together, and of each alone.
    struct Rotaries {
        Rotary all, txt, img;
    };
    // The inputs of an evaluation, which attachments read as well.
    struct Inputs {
        ggml_tensor *img, *txt, *y, *timestep;
        std::vector<ggml_tensor *> positions;  // of each axis, or null; `lead` more positions precede the text's
        int64_t lead;
    };

  protected:
    // final_layer: a ControlNet has none
    Flux(const Config & config, Weights & weights, bool final_layer);

    struct MLPEmbedder {
        Linear in_layer, out_layer;
    };
    struct SelfAttention {
        Linear qkv, proj;
        ggml_tensor *query_norm, *key_norm;
    };
    struct Stream {
        Linear mod;
        SelfAttention attn;
        Linear mlp_0, mlp_2;
    };
    struct DoubleBlock {
        Stream img, txt;
    };
    struct SingleBlock {
        Linear mod, linear1, linear2;
        ggml_tensor *query_norm, *key_norm;
    };
    struct Modulation {
        ggml_tensor *shift, *scale, *gate;
    };
    struct QKV {
        ggml_tensor *q, *k, *v;
    };

    // What IP-Adapters add to the image at the end of a block, or null. q: the image's queries before they are rotated,
    // [head_dim, heads, L]
    using ImagePrompts = std::function<ggml_tensor *(ggml_tensor * q)>;

    MLPEmbedder mlp_embedder(Weights & w, const std::string & name, int64_t in) const;
    Stream stream(Weights & w, const std::string & block, const std::string & name) const;

    // text and image from position `first` on
    static Rotaries rotaries(Graph & g, const std::vector<ggml_tensor *> & positions, int64_t first, int64_t text,
                             int64_t image);
    ggml_tensor * embed(Graph & g, const MLPEmbedder & mlp, ggml_tensor * x) const;
    // silu(vec), which each modulation starts with; guidance can be null
    ggml_tensor * conditioning(Graph & g, ggml_tensor * y, ggml_tensor * timestep, ggml_tensor * guidance) const;
    std::vector<Modulation> modulation(Graph & g, const Linear & lin, ggml_tensor * vec, int count) const;
    QKV qkv(Graph & g, ggml_tensor * projected, ggml_tensor * query_norm, ggml_tensor * key_norm) const;
    ggml_tensor * rotate(Graph & g, ggml_tensor * x, const Rotary & pe) const;
    void double_block(Graph & g, const DoubleBlock & block, ggml_tensor *& img, ggml_tensor *& txt, ggml_tensor * vec,
                      const Rotary & img_pe, const Rotary & txt_pe, const ImagePrompts & image_prompts = {},
                      TextBias * bias = nullptr) const;
    ggml_tensor * single_block(Graph & g, const SingleBlock & block, ggml_tensor * x, ggml_tensor * vec,
                               const Rotary & pe, TextBias * bias = nullptr) const;

    int64_t in_channels_, hidden_, heads_, head_dim_, context_, vec_in_, mlp_;
    int64_t axes_dim_[3];
    float theta_;
    Linear img_in_, txt_in_, final_modulation_, final_linear_;
    MLPEmbedder time_in_, vector_in_, guidance_in_;
    bool guidance_embed_;
    std::vector<DoubleBlock> double_blocks_;
    std::vector<SingleBlock> single_blocks_;

    friend class FluxAttachments;
};

}  // namespace ggflux
