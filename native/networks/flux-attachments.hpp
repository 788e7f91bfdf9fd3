// The ControlNets and IP-Adapters of one evaluation of the FLUX transformer, in its graph.
//
// shape, after [L, T, axes, 0]: the number of controls, for each [attachment, height, width, mode, single_blocks], the
//         number of image prompts, for each [attachment]. attachment: an index into the attachments. mode: 1 if a union
//         ControlNet gets a mode. single_blocks: 1 if its single blocks act. height, width: see ControlNet::Use
// positions: if any control has a mode, the first text token's positions precede the others: [1 + T + L]
// inputs: of each control (ControlNet::samples), then of each image prompt: CLIP's embedding (IpAdapter::project), the
//         scale [1]
#pragma once

#include "controlnet.hpp"
#include "ip-adapter.hpp"

namespace ggflux {

class FluxAttachments {
  public:
    // Throws Error if the shape does not fit the attachments, or they do not fit the transformer.
    FluxAttachments(const Flux & flux, const Attachments & attachments, const Shape & shape);

    size_t max_nodes() const;
    int64_t lead() const;  // more positions before the text's

    void build(Graph & g, const Flux::Inputs & inputs);
    // what block i adds to the image itself, given its queries; see Flux::ImagePrompts
    Flux::ImagePrompts image_prompts(Graph & g, size_t i) const;
    ggml_tensor * after_double_block(Graph & g, size_t i, ggml_tensor * img) const;
    ggml_tensor * after_single_block(Graph & g, size_t i, ggml_tensor * x) const;

  private:
    struct Control {
        const ControlNet * net;
        ControlNet::Use use;
        ControlNet::Samples samples;
    };
    struct ImagePrompt {
        const IpAdapter * adapter;
        ggml_tensor *tokens, *scale;
    };

    const Flux & flux_;
    std::vector<Control> controls_;
    std::vector<ImagePrompt> image_prompts_;
};

}  // namespace ggflux
