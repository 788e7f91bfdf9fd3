#include "controlnet.hpp"

#include "runtime/error.hpp"

#include <algorithm>

namespace ggflux {

namespace {

// of the convolutions that an RGB image goes through
struct HintLayer {
    int kernel, stride;
};
const std::vector<HintLayer> xlabs_hint = {{3, 1}, {3, 1}, {3, 2}, {3, 1}, {3, 2}, {3, 1}, {3, 2}, {3, 1}};
const std::vector<HintLayer> mistoline_hint = {{3, 1}, {1, 1}, {3, 1}, {3, 2}, {3, 1},
                                               {3, 2}, {3, 1}, {3, 2}, {1, 1}, {3, 1}};
constexpr int64_t hint_channels = 16, patch = 2, unit = 16;  // unit: pixels on a side of a token

const std::vector<HintLayer> & hint_layers(ControlNet::Form form) {
    static const std::vector<HintLayer> none;
    return form == ControlNet::Form::rgb ? xlabs_hint : form == ControlNet::Form::mistoline ? mistoline_hint : none;
}

}  // namespace

ControlNet::ControlNet(const Config & config, Weights & w)
    : Flux(config, w, false), form_(static_cast<Form>(config.get("form", 0, 2))),
      cond_channels_(config.get("condChannels")), modes_(config.get("modes", 0, 4096)) {
    if (form_ != Form::latents && cond_channels_ != hint_channels * patch * patch)
        throw Error("FLUX_BAD_OPTION", "config.condChannels must be 64 for a ControlNet that reads an image");
    const std::string linear = form_ == Form::mistoline ? ".linear" : "";
    for (size_t i = 0; i < double_blocks_.size(); i++)
        controlnet_blocks_.push_back(w.linear("controlnet_blocks." + std::to_string(i) + linear, hidden_, hidden_));
    for (size_t i = 0; i < single_blocks_.size(); i++)
        controlnet_single_blocks_.push_back(
            w.linear("controlnet_single_blocks." + std::to_string(i) + linear, hidden_, hidden_));
    if (modes_ > 0) mode_embedder_ = w.table("controlnet_mode_embedder.weight", hidden_, modes_);
    cond_in_ = w.linear("pos_embed_input", cond_channels_, hidden_);
    for (const HintLayer & layer : hint_layers(form_)) {
        const std::string name = form_ == Form::rgb ? "input_hint_block." : "input_cond_block.encoder.";
        // activations are counted as layers
        hint_.push_back(w.conv(name + std::to_string(2 * hint_.size()), layer.kernel, hint_.empty() ? 3 : hint_channels,
                               hint_channels));
    }
}

void ControlNet::build(Graph &, const std::string & mode, const Shape &) const { bad_mode(mode); }

size_t ControlNet::max_nodes() const {
    return Flux::max_nodes() + (linear_nodes + 8) * (double_blocks_.size() + single_blocks_.size()) + 2048;
}

bool ControlNet::fits(const Use & use) const {
    return form_ == Form::latents || (use.height % unit == 0 && use.width % unit == 0);
}

int64_t ControlNet::tokens(const Use & use) const {
    return form_ == Form::latents ? use.height : use.height / unit * (use.width / unit);
}

size_t ControlNet::sample_of(size_t i, size_t blocks, size_t count) const {
    if (form_ == Form::latents) return i / ((blocks + count - 1) / count);
    return i % (form_ == Form::mistoline ? std::min<size_t>(count, 2) : count);  // as its authors' program
}

// image [w, h, 3] -> [64, tokens]
ggml_tensor * ControlNet::hint(Graph & g, ggml_tensor * x) const {
    ggml_context * ctx = g.ctx();
    for (size_t i = 0; i < hint_.size(); i++) {
        const HintLayer & layer = hint_layers(form_)[i];
        x = conv2d(g, hint_[i], i == 0 ? x : ggml_silu(ctx, x), layer.stride, layer.kernel / 2);
    }
    // packed: each token holds 2 x 2 pixels of each channel
    const int64_t columns = x->ne[0] / patch, rows = x->ne[1] / patch;
    x = ggml_reshape_4d(ctx, x, patch, columns, patch, rows * hint_channels);
    x = ggml_cont(ctx, ggml_permute(ctx, x, 0, 2, 1, 3));
    x = ggml_reshape_3d(ctx, x, patch * patch, columns * rows, hint_channels);
    x = ggml_cont(ctx, ggml_permute(ctx, x, 0, 2, 1, 3));
    return ggml_reshape_2d(ctx, x, patch * patch * hint_channels, columns * rows);
}

ControlNet::Samples ControlNet::samples(Graph & g, const Inputs & in, const Use & use) const {
    ggml_context * ctx = g.ctx();
    const int64_t L = tokens(use), lead = use.mode ? 1 : 0, T = lead + in.txt->ne[1];
    ggml_tensor * cond =
        form_ == Form::latents ? g.input({cond_channels_, L}) : hint(g, g.input({use.width, use.height, 3}));
    ggml_tensor * guidance = guidance_embed_ ? g.input({256}) : nullptr;
    ggml_tensor * mode = use.mode ? g.indices(1, modes_) : nullptr;
    ggml_tensor * scale = ggml_repeat_4d(ctx, g.input({1}), hidden_, 1, 1, 1);

    ggml_tensor * img = linear(g, img_in_, L == in.img->ne[1] ? in.img : columns(g, in.img, 0, L));
    img = ggml_add(ctx, img, linear(g, cond_in_, cond));
    ggml_tensor * vec = conditioning(g, in.y, in.timestep, guidance);
    ggml_tensor * txt = linear(g, txt_in_, in.txt);
    // the mode is one more token, at the position of the first text token
    if (mode) txt = ggml_concat(ctx, ggml_get_rows(ctx, mode_embedder_, mode), txt, 1);
    const Rotaries pe = rotaries(g, in.positions, in.lead - lead, T, L);

    Samples samples;
    const auto sample = [&](const Linear & block, ggml_tensor * x) {
        ggml_tensor * y = linear(g, block, x);
        return ggml_mul(ctx, form_ == Form::mistoline ? ggml_silu(ctx, y) : y, scale);
    };
    for (size_t i = 0; i < double_blocks_.size(); i++) {
        double_block(g, double_blocks_[i], img, txt, vec, pe.img, pe.txt);
        g.stop_point(img);
        samples.double_blocks.push_back(sample(controlnet_blocks_[i], img));
    }
    if (!use.single_blocks || single_blocks_.empty()) return samples;
    // Mistoline's single blocks start without the image, and change the text as well
    const bool whole = form_ == Form::mistoline;
    samples.first_column = whole ? 0 : in.txt->ne[1];
    ggml_tensor * x = ggml_concat(ctx, txt, whole ? ggml_scale(ctx, img, 0.0f) : img, 1);
    for (size_t i = 0; i < single_blocks_.size(); i++) {
        x = single_block(g, single_blocks_[i], x, vec, pe.all);
        g.stop_point(x);
        samples.single_blocks.push_back(sample(controlnet_single_blocks_[i], whole ? x : columns(g, x, T, L)));
    }
    return samples;
}

}  // namespace ggflux
