#include "rrdb.hpp"

namespace ggflux {

namespace {

// 0.8 relu(x) + 0.2 x. ggml's own operation turns NaN into 0, so that damaged weights would give a plausible image.
ggml_tensor * leaky_relu(Graph & g, ggml_tensor * x) {
    ggml_tensor * positive = ggml_scale(g.ctx(), ggml_relu(g.ctx(), x), 0.8f);
    return ggml_add(g.ctx(), positive, ggml_scale(g.ctx(), x, 0.2f));
}

// x + 0.2 y
ggml_tensor * add_fifth(Graph & g, ggml_tensor * x, ggml_tensor * y) {
    return ggml_add(g.ctx(), ggml_scale(g.ctx(), y, 0.2f), x);
}

}  // namespace

Rrdb::Rrdb(const Config & config, Weights & w)
    : features_(config.get("features", 1, 4096)), growth_(config.get("growth", 1, 4096)) {
    const int64_t unshuffle = config.get("unshuffle", 1, 4);
    channels_ = 3 * unshuffle * unshuffle;
    conv_first_ = w.conv("conv_first", 3, channels_, features_);
    blocks_.resize(config.get("blocks", 1, 1024));
    for (size_t i = 0; i < blocks_.size(); i++) {
        for (int j = 0; j < dense_blocks; j++) {
            const std::string name = "body." + std::to_string(i) + ".rdb" + std::to_string(j + 1) + ".conv";
            for (int k = 0; k < dense_convolutions; k++) {
                const int64_t out = k == dense_convolutions - 1 ? features_ : growth_;
                blocks_[i].rdb[j].conv[k] = w.conv(name + std::to_string(k + 1), 3, features_ + k * growth_, out);
            }
        }
    }
    conv_body_ = w.conv("conv_body", 3, features_, features_);
    const int64_t doublings = config.get("doublings", 0, 4);
    for (int64_t i = 1; i <= doublings; i++) {
        conv_up_.push_back(w.conv("conv_up" + std::to_string(i), 3, features_, features_));
    }
    conv_hr_ = w.conv("conv_hr", 3, features_, features_);
    conv_last_ = w.conv("conv_last", 3, features_, 3);
}

// Each convolution reads the block's input and what all convolutions before it have made.
ggml_tensor * Rrdb::run(Graph & g, const Dense & dense, ggml_tensor * x) const {
    ggml_tensor * all = x;
    for (int k = 0; k < dense_convolutions - 1; k++) {
        all = ggml_concat(g.ctx(), all, leaky_relu(g, conv2d(g, dense.conv[k], all, 1, 1)), 2);
    }
    return add_fifth(g, x, conv2d(g, dense.conv[dense_convolutions - 1], all, 1, 1));
}

ggml_tensor * Rrdb::run(Graph & g, const Block & block, ggml_tensor * x) const {
    ggml_tensor * y = x;
    for (const Dense & dense : block.rdb) y = run(g, dense, y);
    y = add_fifth(g, x, y);
    g.stop_point(y);
    return y;
}

void Rrdb::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "upscale") bad_mode(mode);
    const int64_t h = dimension(shape, 0, 1, 1 << 15, "the height"), w = dimension(shape, 1, 1, 1 << 15, "the width");
    ggml_tensor * x = conv2d(g, conv_first_, g.input({w, h, channels_}), 1, 1);
    ggml_tensor * y = x;
    for (const Block & block : blocks_) y = run(g, block, y);
    x = ggml_add(g.ctx(), x, conv2d(g, conv_body_, y, 1, 1));
    for (const Conv & conv : conv_up_) x = leaky_relu(g, upsample_conv2d(g, conv, x));
    x = leaky_relu(g, conv2d(g, conv_hr_, x, 1, 1));
    g.output(conv2d(g, conv_last_, x, 1, 1));
}

}  // namespace ggflux
