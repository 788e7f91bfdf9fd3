#include "taesd.hpp"

namespace ggflux {

namespace {

constexpr int stages = 3, blocks = 3;

std::string layer_name(int64_t layer) { return "decoder.layers." + std::to_string(layer); }

}  // namespace

// Layers are numbered as in diffusers, which also counts activations and upsamplings.
TinyDecoder::TinyDecoder(const Config & config, Weights & w)
    : z_(config.get("zChannels", 1, 1024)), width_(config.get("width", 1, 4096)) {
    int64_t layer = 0;
    conv_in_ = w.conv(layer_name(layer), 3, z_, width_);
    layer += 2;
    for (int s = 0; s < stages; s++) {
        Stage stage;
        for (int b = 0; b < blocks; b++) stage.blocks.push_back(block(w, layer++));
        layer++;
        stage.resample = w.f32_tensor(layer_name(layer++) + ".weight", {3, 3, width_, width_});
        stages_.push_back(stage);
    }
    last_ = block(w, layer++);
    conv_out_ = w.conv(layer_name(layer), 3, width_, 3);
}

TinyDecoder::Block TinyDecoder::block(Weights & w, int64_t layer) const {
    const auto conv = [&](const char * name) { return w.conv(layer_name(layer) + ".conv." + name, 3, width_, width_); };
    return {conv("0"), conv("2"), conv("4")};
}

ggml_tensor * TinyDecoder::run(Graph & g, const Block & block, ggml_tensor * x) const {
    ggml_context * ctx = g.ctx();
    ggml_tensor * y = ggml_relu(ctx, conv2d(g, block.conv_0, x, 1, 1));
    y = ggml_relu(ctx, conv2d(g, block.conv_2, y, 1, 1));
    y = ggml_relu(ctx, ggml_add(ctx, x, conv2d(g, block.conv_4, y, 1, 1)));
    g.stop_point(y);
    return y;
}

void TinyDecoder::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "decode") bad_mode(mode);
    ggml_context * ctx = g.ctx();
    const int64_t h = dimension(shape, 0, 1, 1 << 15, "the height"), w = dimension(shape, 1, 1, 1 << 15, "the width");
    ggml_tensor * none = ggml_scale(ctx, last_.conv_0.bias, 0.0f);
    ggml_tensor * x = ggml_scale(ctx, ggml_tanh(ctx, ggml_scale(ctx, g.input({w, h, z_}), 1.0f / 3)), 3.0f);
    x = ggml_relu(ctx, conv2d(g, conv_in_, x, 1, 1));
    for (const Stage & stage : stages_) {
        for (const Block & block : stage.blocks) x = run(g, block, x);
        x = upsample_conv2d(g, {stage.resample, none}, x);
    }
    x = conv2d(g, conv_out_, run(g, last_, x), 1, 1);
    g.output(ggml_scale_bias(ctx, x, 2.0f, -1.0f));  // the network's range is 0 to 1
}

}  // namespace ggflux
