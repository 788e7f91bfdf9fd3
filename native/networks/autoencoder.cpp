#include "autoencoder.hpp"
#include "runtime/error.hpp"

namespace ggflux {

namespace { constexpr float eps = 1e-6f; }

Autoencoder::Autoencoder(const Config & config, Weights & w)
    : blocks_(config.get("numResBlocks", 1, 16)), z_(config.get("zChannels", 1, 1024)),
      scale_factor_(config.real("scaleFactor")), shift_factor_(config.real("shiftFactor")),
      has_encoder_(config.flag("hasEncoder")), has_decoder_(config.flag("hasDecoder")) {
    const int64_t ch = config.get("ch", 32, 4096);
    for (int64_t i = 0; i < config.get("levels", 1, 8); i++)
        levels_.push_back(ch * config.get("chMult" + std::to_string(i), 1, 64));
    for (const int64_t channels : levels_) {
        if (channels % 32 != 0) throw Error("FLUX_BAD_OPTION", "config.ch must be a multiple of 32");
    }
    const int last = static_cast<int>(levels_.size()) - 1;

    if (has_encoder_) {
        encoder_.conv_in = w.conv("encoder.conv_in", 3, 3, ch);
        int64_t in = ch;
        for (int i = 0; i <= last; i++) {
            const std::string name = "encoder.down." + std::to_string(i);
            Level level;
            for (int64_t j = 0; j < blocks_; j++, in = levels_[i])
                level.block.push_back(resnet_block(w, name + ".block." + std::to_string(j), in, levels_[i]));
            if (i != last) level.resample = w.conv(name + ".downsample.conv", 3, in, in);
            encoder_.levels.push_back(level);
        }
        encoder_.mid = middle(w, "encoder.mid", in);
        encoder_.norm_out = w.layer_norm("encoder.norm_out", in);
        encoder_.conv_out = w.conv("encoder.conv_out", 3, in, 2 * z_);
    }
    if (has_decoder_) {
        int64_t in = levels_[last];
        decoder_.conv_in = w.conv("decoder.conv_in", 3, z_, in);
        decoder_.mid = middle(w, "decoder.mid", in);
        decoder_.levels.resize(levels_.size());
        for (int i = last; i >= 0; i--) {
            const std::string name = "decoder.up." + std::to_string(i);
            Level & level = decoder_.levels[i];
            for (int64_t j = 0; j <= blocks_; j++, in = levels_[i])
                level.block.push_back(resnet_block(w, name + ".block." + std::to_string(j), in, levels_[i]));
            if (i != 0) level.resample = w.conv(name + ".upsample.conv", 3, in, in);
        }
        decoder_.norm_out = w.layer_norm("decoder.norm_out", in);
        decoder_.conv_out = w.conv("decoder.conv_out", 3, in, 3);
    }
}

Autoencoder::ResnetBlock Autoencoder::resnet_block(Weights & w, const std::string & name, int64_t in,
                                                   int64_t out) const {
    ResnetBlock block = {w.layer_norm(name + ".norm1", in),
                         w.layer_norm(name + ".norm2", out),
                         w.conv(name + ".conv1", 3, in, out),
                         w.conv(name + ".conv2", 3, out, out),
                         {}};
    if (in != out) block.nin_shortcut = w.conv(name + ".nin_shortcut", 1, in, out);
    return block;
}

Autoencoder::Middle Autoencoder::middle(Weights & w, const std::string & name, int64_t n) const {
    const std::string attn = name + ".attn_1.";
    return {resnet_block(w, name + ".block_1", n, n),
            resnet_block(w, name + ".block_2", n, n),
            {w.layer_norm(attn + "norm", n), w.conv(attn + "q", 1, n, n), w.conv(attn + "k", 1, n, n),
             w.conv(attn + "v", 1, n, n), w.conv(attn + "proj_out", 1, n, n)}};
}

void Autoencoder::build(Graph & g, const std::string & mode, const Shape & shape) const {
    const int64_t h = dimension(shape, 0, 1, 1 << 15, "the height"), w = dimension(shape, 1, 1, 1 << 15, "the width");
    if (mode == "decode" && has_decoder_) {
        ggml_tensor * latent = g.input({w, h, z_});
        g.output(decode(g, ggml_scale_bias(g.ctx(), latent, 1.0f / scale_factor_, shift_factor_)));
    } else if (mode == "encode" && has_encoder_) {
        const int64_t unit = int64_t{1} << (levels_.size() - 1);
        if (h % unit || w % unit)
            throw Error("FLUX_BAD_SHAPE", "height and width must be multiples of " + std::to_string(unit));
        g.output(encode(g, g.input({w, h, 3})));
    } else {
        bad_mode(mode);
    }
}

// [w, h, in] -> [w, h, out]. ggml stores a sum in place of its first operand, which is x or the second convolution.
// This choice affects how well the allocator packs the buffers. Measured at 1024 x 1024: 2.00 GiB with the convolution
// first in the last block before each upsampling, otherwise 2.25.
ggml_tensor * Autoencoder::resnet(Graph & g, const ResnetBlock & block, ggml_tensor * x, bool into_x) const {
    ggml_context * ctx = g.ctx();
    ggml_tensor * h = norm_silu_conv2d(g, block.norm1, block.conv1, x, eps);
    h = norm_silu_conv2d(g, block.norm2, block.conv2, h, eps);
    if (block.nin_shortcut.weight) x = conv2d(g, block.nin_shortcut, x, 1, 0);
    h = into_x && !block.nin_shortcut.weight ? ggml_add(ctx, x, h) : ggml_add(ctx, h, x);
    g.stop_point(h);
    return h;
}

// one head over all pixels
ggml_tensor * Autoencoder::attend(Graph & g, const AttnBlock & block, ggml_tensor * x) const {
    ggml_context * ctx = g.ctx();
    const int64_t w = x->ne[0], h = x->ne[1], channels = x->ne[2];
    ggml_tensor * y = ggml_reshape_2d(ctx, group_norm(g, block.norm, x, eps), w * h, channels);
    y = ggml_cont(ctx, ggml_transpose(ctx, y));  // [channels, pixels]
    // a 1 x 1 convolution is a linear layer over the pixels
    const auto project = [&](const Conv & conv, ggml_tensor * pixels) {
        return linear(g, {ggml_reshape_2d(ctx, conv.weight, channels, channels), conv.bias}, pixels);
    };
    const auto head = [&](const Conv & conv) { return ggml_reshape_3d(ctx, project(conv, y), channels, 1, w * h); };
    y = attention(g, head(block.q), head(block.k), head(block.v), g.precision() == Precision::bf16);
    y = ggml_cont(ctx, ggml_transpose(ctx, project(block.proj_out, y)));
    return ggml_add(ctx, x, ggml_reshape_3d(ctx, y, w, h, channels));
}

ggml_tensor * Autoencoder::run_middle(Graph & g, const Middle & mid, ggml_tensor * x) const {
    return resnet(g, mid.block_2, attend(g, mid.attn_1, resnet(g, mid.block_1, x)));
}

ggml_tensor * Autoencoder::encode(Graph & g, ggml_tensor * x) const {
    x = conv2d(g, encoder_.conv_in, x, 1, 1);
    for (const Level & level : encoder_.levels) {
        for (const ResnetBlock & block : level.block) x = resnet(g, block, x);
        // padded only on the right and at the bottom
        if (level.resample.weight) x = conv2d(g, level.resample, ggml_pad(g.ctx(), x, 1, 1, 0, 0), 2, 0);
    }
    x = run_middle(g, encoder_.mid, x);
    return norm_silu_conv2d(g, encoder_.norm_out, encoder_.conv_out, x, eps);
}

ggml_tensor * Autoencoder::decode(Graph & g, ggml_tensor * z) const {
    ggml_tensor * x = run_middle(g, decoder_.mid, conv2d(g, decoder_.conv_in, z, 1, 1));
    for (auto level = decoder_.levels.rbegin(); level != decoder_.levels.rend(); ++level) {
        for (const ResnetBlock & block : level->block)
            x = resnet(g, block, x, &block != &level->block.back() || !level->resample.weight);
        if (level->resample.weight) x = upsample_conv2d(g, level->resample, x);
    }
    return norm_silu_conv2d(g, decoder_.norm_out, decoder_.conv_out, x, eps);
}

}  // namespace ggflux
