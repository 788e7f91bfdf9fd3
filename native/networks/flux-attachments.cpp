#include "flux-attachments.hpp"

#include "runtime/error.hpp"

namespace ggflux {

namespace {

constexpr int64_t max_uses = 64;

// The attachment with the index `shape[i]`, which must be of this kind.
template <class Kind> const Kind * attachment(const Attachments & attachments, const Shape & shape, size_t i) {
    const int64_t most = static_cast<int64_t>(attachments.networks.size()) - 1;
    const auto * network =
        dynamic_cast<const Kind *>(attachments.networks[dimension(shape, i, 0, most, "the index of the attachment")]);
    if (!network) throw Error("FLUX_BAD_OPTION", "an attachment is of another kind than its use");
    return network;
}

// x + y, where y covers some of the columns of x, which is not used afterwards
ggml_tensor * add_columns(Graph & g, ggml_tensor * x, ggml_tensor * y, int64_t first) {
    if (y->ne[1] == x->ne[1]) return ggml_add(g.ctx(), x, y);
    return ggml_acc_inplace(g.ctx(), x, y, x->nb[1], x->nb[2], x->nb[3], first * x->nb[1]);
}

}  // namespace

FluxAttachments::FluxAttachments(const Flux & flux, const Attachments & attachments, const Shape & shape)
    : flux_(flux) {
    size_t at = 4;
    if (shape.size() <= at) return;
    for (int64_t n = dimension(shape, at++, 0, max_uses, "the number of controls"); n > 0; n--, at += 5) {
        const auto * net = attachment<ControlNet>(attachments, shape, at);
        const ControlNet::Use use = {dimension(shape, at + 1, 1, 1 << 18, "the height of the control image"),
                                     dimension(shape, at + 2, 1, 1 << 18, "the width of the control image"),
                                     dimension(shape, at + 3, 0, net->has_modes() ? 1 : 0, "the mode") != 0,
                                     dimension(shape, at + 4, 0, 1, "the use of the single blocks") != 0};
        if (!net->fits(use)) throw Error("FLUX_BAD_SHAPE", "a control image's sides must be multiples of 16");
        const int64_t tokens = net->tokens(use);
        if (tokens < 1 || tokens > shape[0])
            throw Error("FLUX_BAD_SHAPE", "a control image has " + std::to_string(tokens) + " tokens, and the image " +
                                              std::to_string(shape[0]));
        if (net->hidden_ != flux.hidden_ || net->context_ != flux.context_ || net->vec_in_ != flux.vec_in_ ||
            net->in_channels_ > flux.in_channels_ || net->double_blocks_.empty())
            throw Error("FLUX_BAD_FILE", "a ControlNet does not fit this transformer");
        controls_.push_back({net, use, {}});
    }
    for (int64_t n = dimension(shape, at++, 0, max_uses, "the number of image prompts"); n > 0; n--, at++) {
        const auto * adapter = attachment<IpAdapter>(attachments, shape, at);
        if (adapter->hidden() != flux.hidden_ || adapter->depth() != flux.double_blocks_.size())
            throw Error("FLUX_BAD_FILE", "an IP-Adapter does not fit this transformer");
        image_prompts_.push_back({adapter, nullptr, nullptr});
    }
}

size_t FluxAttachments::max_nodes() const {
    size_t nodes = 0;
    for (const Control & control : controls_)
        nodes += control.net->max_nodes() + flux_.double_blocks_.size() + flux_.single_blocks_.size();
    for (const ImagePrompt & prompt : image_prompts_) nodes += prompt.adapter->max_nodes() + 8;
    return nodes;
}

int64_t FluxAttachments::lead() const {
    for (const Control & control : controls_)
        if (control.use.mode) return 1;
    return 0;
}

// The order in which the graph is evaluated follows from its result: a sample is computed when a block needs it.
void FluxAttachments::build(Graph & g, const Flux::Inputs & inputs) {
    for (Control & control : controls_) control.samples = control.net->samples(g, inputs, control.use);
    for (ImagePrompt & prompt : image_prompts_) {
        prompt.tokens = prompt.adapter->project(g);
        prompt.scale = ggml_repeat_4d(g.ctx(), g.input({1}), flux_.hidden_, 1, 1, 1);
    }
}

Flux::ImagePrompts FluxAttachments::image_prompts(Graph & g, size_t i) const {
    if (image_prompts_.empty()) return {};
    return [this, &g, i](ggml_tensor * q) {
        ggml_tensor * sum = nullptr;
        for (const ImagePrompt & prompt : image_prompts_) {
            ggml_tensor * y = ggml_mul(g.ctx(), prompt.adapter->attend(g, i, prompt.tokens, q), prompt.scale);
            sum = sum ? ggml_add(g.ctx(), sum, y) : y;
        }
        return sum;
    };
}

ggml_tensor * FluxAttachments::after_double_block(Graph & g, size_t i, ggml_tensor * img) const {
    for (const auto & [net, use, samples] : controls_) {
        const auto & all = samples.double_blocks;
        img = add_columns(g, img, all[net->sample_of(i, flux_.double_blocks_.size(), all.size())], 0);
    }
    return img;
}

ggml_tensor * FluxAttachments::after_single_block(Graph & g, size_t i, ggml_tensor * x) const {
    for (const auto & [net, use, samples] : controls_) {
        const auto & all = samples.single_blocks;
        if (all.empty()) continue;
        x = add_columns(g, x, all[net->sample_of(i, flux_.single_blocks_.size(), all.size())], samples.first_column);
    }
    return x;
}

}  // namespace ggflux
