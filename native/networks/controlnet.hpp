// ControlNets for FLUX.1, which the transformer evaluates in its own graph (flux-attachments.hpp). They have the
// transformer's blocks, fewer of them, and a linear layer after each whose results the transformer adds to its own.
//
// Three forms: after diffusers `controlnet_flux.py` (InstantX, Shakker, alimama), the control image is a latent; after
// XLabs-AI/x-flux `src/flux/controlnet.py` and TheMistoAI/MistoControlNet-Flux-dev `modules/misto_controlnet.py`, it is
// an RGB image that goes through convolutions.
#pragma once

#include "flux.hpp"

namespace ggflux {

class ControlNet : public Flux {
  public:
    // latents: as tokens. rgb: as an image [3, height, width] in -1 to 1
    enum class Form { latents, rgb, mistoline };

    // How one evaluation uses it. For latents, the height is the number of tokens and the width is 1.
    struct Use {
        int64_t height, width;
        bool mode, single_blocks;
    };

    // What it adds to the image tokens, or from column 0 on to text and image, after each block of the transformer.
    struct Samples {
        std::vector<ggml_tensor *> double_blocks, single_blocks;
        int64_t first_column = 0;  // of the single blocks' samples
    };

    ControlNet(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override;

    // Declares its inputs: the control image, with guidance_embed the sinusoid of the guidance [256], with a mode the
    // mode [1] (I32), the scale [1].
    Samples samples(Graph & g, const Inputs & inputs, const Use & use) const;

    // The sample that is added after block i of `blocks` blocks. count: the number of samples
    size_t sample_of(size_t i, size_t blocks, size_t count) const;

    bool fits(const Use & use) const;  // whether the sides of the control image are whole tokens
    int64_t tokens(const Use & use) const;
    bool has_modes() const { return modes_ > 0; }

  private:
    ggml_tensor * hint(Graph & g, ggml_tensor * image) const;

    Form form_;
    int64_t cond_channels_, modes_;
    std::vector<Conv> hint_;
    Linear cond_in_;
    ggml_tensor * mode_embedder_ = nullptr;
    std::vector<Linear> controlnet_blocks_, controlnet_single_blocks_;
};

}  // namespace ggflux
