#include "flux.hpp"

#include "adapters/adapter.hpp"
#include "flux-attachments.hpp"
#include "runtime/error.hpp"

namespace ggflux {

namespace { constexpr float eps = 1e-6f; }

Flux::Flux(const Config & config, Weights & w) : Flux(config, w, true) {}

Flux::Flux(const Config & config, Weights & w, bool final_layer)
    : in_channels_(config.get("inChannels")), hidden_(config.get("hiddenSize", 1, 1 << 16)),
      heads_(config.get("numHeads", 1, 1024)), context_(config.get("contextInDim")), vec_in_(config.get("vecInDim")),
      mlp_(4 * hidden_), axes_dim_{config.get("axesDim0", 2), config.get("axesDim1", 2), config.get("axesDim2", 2)},
      theta_(config.real("theta")), guidance_embed_(config.flag("guidanceEmbed")) {
    head_dim_ = hidden_ / heads_;
    if (head_dim_ * heads_ != hidden_ || axes_dim_[0] + axes_dim_[1] + axes_dim_[2] != head_dim_ ||
        (axes_dim_[0] | axes_dim_[1] | axes_dim_[2]) % 2) {
        throw Error("FLUX_BAD_OPTION",
                    "config.axesDim must be three even numbers that add up to hiddenSize / numHeads");
    }
    if (!(theta_ > 1.0f)) throw Error("FLUX_BAD_OPTION", "config.theta must be greater than 1");

    img_in_ = w.linear("img_in", in_channels_, hidden_);
    txt_in_ = w.linear("txt_in", context_, hidden_);
    time_in_ = mlp_embedder(w, "time_in", 256);
    vector_in_ = mlp_embedder(w, "vector_in", vec_in_);
    if (guidance_embed_) guidance_in_ = mlp_embedder(w, "guidance_in", 256);

    for (int64_t i = 0; i < config.get("depth", 0, 1024); i++) {
        const std::string block = "double_blocks." + std::to_string(i);
        double_blocks_.push_back({stream(w, block, "img"), stream(w, block, "txt")});
    }
    for (int64_t i = 0; i < config.get("depthSingleBlocks", 0, 1024); i++) {
        const std::string block = "single_blocks." + std::to_string(i);
        single_blocks_.push_back({w.linear(block + ".modulation.lin", hidden_, 3 * hidden_),
                                  w.linear(block + ".linear1", hidden_, 3 * hidden_ + mlp_),
                                  w.linear(block + ".linear2", hidden_ + mlp_, hidden_),
                                  w.scale(block + ".norm.query_norm.scale", head_dim_),
                                  w.scale(block + ".norm.key_norm.scale", head_dim_)});
    }
    if (!final_layer) return;
    final_linear_ = w.linear("final_layer.linear", hidden_, config.get("outChannels"));
    final_modulation_ = w.linear("final_layer.adaLN_modulation.1", hidden_, 2 * hidden_);
}

Flux::MLPEmbedder Flux::mlp_embedder(Weights & w, const std::string & name, int64_t in) const {
    return {w.linear(name + ".in_layer", in, hidden_), w.linear(name + ".out_layer", hidden_, hidden_)};
}

Flux::Stream Flux::stream(Weights & w, const std::string & block, const std::string & name) const {
    const std::string p = block + "." + name + "_";
    return {w.linear(p + "mod.lin", hidden_, 6 * hidden_),
            {w.linear(p + "attn.qkv", hidden_, 3 * hidden_), w.linear(p + "attn.proj", hidden_, hidden_),
             w.scale(p + "attn.norm.query_norm.scale", head_dim_), w.scale(p + "attn.norm.key_norm.scale", head_dim_)},
            w.linear(p + "mlp.0", hidden_, mlp_),
            w.linear(p + "mlp.2", mlp_, hidden_)};
}

size_t Flux::max_nodes() const {
    const size_t double_block = 10 * linear_nodes + attention_nodes + 128,
                 single_block = 3 * linear_nodes + attention_nodes + 64;
    return 10 * linear_nodes + 128 + double_block * double_blocks_.size() + single_block * single_blocks_.size();
}

size_t Flux::attached_nodes(const Attachments & attachments, const Shape & shape) const {
    return FluxAttachments(*this, attachments, shape).max_nodes();
}

void Flux::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "predict") bad_mode(mode);
    const int64_t L = dimension(shape, 0, 1, 1 << 18, "the number of image tokens");
    const int64_t T = dimension(shape, 1, 1, 1 << 14, "the number of text tokens");
    const int64_t axes = dimension(shape, 2, 0, 7, "the set of axes");
    const bool biased = shape.size() > 3 && dimension(shape, 3, 0, 1, "biased") == 1;

    int64_t channels = in_channels_;  // more if a LoRA reads a control image after these channels
    for (const Adapter & adapter : adapters_of(g, img_in_.weight))
        channels = std::max(channels, adapter.left.down->ne[0]);
    ggml_tensor * img = g.input({channels, L});
    ggml_tensor * txt = g.input({context_, T});
    ggml_tensor * y = g.input({vec_in_});
    ggml_tensor * timestep = g.input({256});
    ggml_tensor * guidance = guidance_embed_ ? g.input({256}) : nullptr;
    static const Attachments none;
    FluxAttachments attached(*this, g.attachments() ? *g.attachments() : none, shape);
    std::vector<ggml_tensor *> positions;
    for (int axis = 0; axis < 3; axis++)
        positions.push_back(axes >> axis & 1 ? g.indices(attached.lead() + T + L, 1 << 24) : nullptr);
    TextBias text_bias{biased ? g.input({T, T + 1}) : nullptr};
    TextBias * bias = biased ? &text_bias : nullptr;
    attached.build(g, {img, txt, y, timestep, positions, attached.lead()});
    const Rotaries pe = rotaries(g, positions, attached.lead(), T, L);

    img = linear(g, img_in_, img);
    ggml_tensor * vec = conditioning(g, y, timestep, guidance);
    txt = linear(g, txt_in_, txt);

    for (size_t i = 0; i < double_blocks_.size(); i++) {
        double_block(g, double_blocks_[i], img, txt, vec, pe.img, pe.txt, attached.image_prompts(g, i), bias);
        img = attached.after_double_block(g, i, img);
        g.stop_point(img);
    }
    ggml_tensor * x = ggml_concat(g.ctx(), txt, img, 1);  // [hidden, T + L]
    for (size_t i = 0; i < single_blocks_.size(); i++) {
        x = attached.after_single_block(g, i, single_block(g, single_blocks_[i], x, vec, pe.all, bias));
        g.stop_point(x);
    }
    img = columns(g, x, T, L);

    const auto final = chunk(g, linear(g, final_modulation_, vec), 2);  // shift, scale
    img = modulate(g, layer_norm(g, img, eps), final[0], final[1]);
    g.output(linear(g, final_linear_, img));
}

ggml_tensor * Flux::embed(Graph & g, const MLPEmbedder & mlp, ggml_tensor * x) const {
    return linear(g, mlp.out_layer, ggml_silu(g.ctx(), linear(g, mlp.in_layer, x)));
}

ggml_tensor * Flux::conditioning(Graph & g, ggml_tensor * y, ggml_tensor * timestep, ggml_tensor * guidance) const {
    ggml_tensor * vec = embed(g, time_in_, timestep);
    if (guidance) vec = ggml_add(g.ctx(), vec, embed(g, guidance_in_, guidance));
    return ggml_silu(g.ctx(), ggml_add(g.ctx(), vec, embed(g, vector_in_, y)));
}

Flux::Rotaries Flux::rotaries(Graph & g, const std::vector<ggml_tensor *> & positions, int64_t first, int64_t text,
                              int64_t image) {
    Rotaries pe;
    for (ggml_tensor * axis : positions) {
        const auto part = [&](int64_t from, int64_t count) {
            if (!axis || count == axis->ne[0]) return axis;
            ggml_tensor * view = ggml_view_1d(g.ctx(), axis, count, from * axis->nb[0]);
            g.before({view});
            return view;
        };
        pe.all.positions.push_back(part(first, text + image));
        pe.txt.positions.push_back(part(first, text));
        pe.img.positions.push_back(part(first + text, image));
    }
    return pe;
}

std::vector<Flux::Modulation> Flux::modulation(Graph & g, const Linear & lin, ggml_tensor * vec, int count) const {
    const auto parts = chunk(g, linear(g, lin, vec), 3 * count);
    std::vector<Modulation> result;
    for (int i = 0; i < count; i++) result.push_back({parts[3 * i], parts[3 * i + 1], parts[3 * i + 2]});
    return result;
}

// projected [>= 3 * hidden, n]: each column holds q, k and v, one after the other
Flux::QKV Flux::qkv(Graph & g, ggml_tensor * projected, ggml_tensor * query_norm, ggml_tensor * key_norm) const {
    ggml_tensor * q = split_heads(g, projected, 0, head_dim_, heads_);
    ggml_tensor * k = split_heads(g, projected, hidden_, head_dim_, heads_);
    ggml_tensor * v = split_heads(g, projected, 2 * hidden_, head_dim_, heads_);
    return {rms_norm(g, query_norm, q, eps), rms_norm(g, key_norm, k, eps), v};
}

ggml_tensor * Flux::rotate(Graph & g, ggml_tensor * x, const Rotary & pe) const {
    int offset = 0;
    for (int axis = 0; axis < 3; axis++) {
        const int dims = static_cast<int>(axes_dim_[axis]);
        if (pe.positions[axis]) x = rope(g, x, pe.positions[axis], offset, dims, theta_);
        offset += dims;
    }
    return x;
}

void Flux::double_block(Graph & g, const DoubleBlock & block, ggml_tensor *& img, ggml_tensor *& txt, ggml_tensor * vec,
                        const Rotary & img_pe, const Rotary & txt_pe, const ImagePrompts & image_prompts,
                        TextBias * bias) const {
    ggml_context * ctx = g.ctx();
    const int64_t T = txt->ne[1], L = img->ne[1];
    const auto img_mod = modulation(g, block.img.mod, vec, 2);
    const auto txt_mod = modulation(g, block.txt.mod, vec, 2);
    g.before({img_mod[0].gate, img_mod[1].gate, txt_mod[0].gate, txt_mod[1].gate});

    // prepare the image for attention
    ggml_tensor * img_modulated = modulate(g, layer_norm(g, img, eps), img_mod[0].shift, img_mod[0].scale);
    const QKV i =
        qkv(g, linear(g, block.img.attn.qkv, img_modulated), block.img.attn.query_norm, block.img.attn.key_norm);

    ggml_tensor * prompted = image_prompts ? image_prompts(i.q) : nullptr;
    if (prompted) ggml_build_forward_expand(g.nodes(), prompted);  // before the queries are rotated in place

    // prepare the text for attention
    ggml_tensor * txt_modulated = modulate(g, layer_norm(g, txt, eps), txt_mod[0].shift, txt_mod[0].scale);
    const QKV t =
        qkv(g, linear(g, block.txt.attn.qkv, txt_modulated), block.txt.attn.query_norm, block.txt.attn.key_norm);

    // run the attention, text first
    ggml_tensor * q = ggml_concat(ctx, rotate(g, t.q, txt_pe), rotate(g, i.q, img_pe), 2);
    ggml_tensor * k = ggml_concat(ctx, rotate(g, t.k, txt_pe), rotate(g, i.k, img_pe), 2);
    ggml_tensor * v = ggml_concat(ctx, t.v, i.v, 2);
    ggml_tensor * attn = attention(g, q, k, v, may_round(g, block.img.attn.qkv), bias);

    const auto finish = [&](const Stream & stream, const std::vector<Modulation> & mod, ggml_tensor * x,
                            ggml_tensor * attended) {
        x = ggml_add(ctx, x, ggml_mul(ctx, linear(g, stream.attn.proj, attended), mod[0].gate));
        ggml_tensor * y = modulate(g, layer_norm(g, x, eps), mod[1].shift, mod[1].scale);
        y = linear_gelu(g, stream.mlp_2, linear(g, stream.mlp_0, y));
        return ggml_add(ctx, x, ggml_mul(ctx, y, mod[1].gate));
    };
    img = finish(block.img, img_mod, img, columns(g, attn, T, L));
    if (prompted) img = ggml_add(ctx, img, prompted);
    txt = finish(block.txt, txt_mod, txt, columns(g, attn, 0, T));
}

ggml_tensor * Flux::single_block(Graph & g, const SingleBlock & block, ggml_tensor * x, ggml_tensor * vec,
                                 const Rotary & pe, TextBias * bias) const {
    ggml_context * ctx = g.ctx();
    const Modulation mod = modulation(g, block.mod, vec, 1)[0];
    g.before({mod.gate});
    ggml_tensor * modulated = rounded(g, block.linear1, modulate(g, layer_norm(g, x, eps), mod.shift, mod.scale));
    // Each column holds q, k, v and mlp. GPUs cannot apply GELU to a part of each column, so the layer is computed as
    // two layers.
    const bool two = g.cpu_threads() == 0 && adapters_of(g, block.linear1.weight).empty() &&
                     adapters_of(g, block.linear1.bias).empty();
    ggml_tensor * projected = linear(g, two ? rows(g, block.linear1, 0, 3 * hidden_) : block.linear1, modulated);

    const QKV s = qkv(g, projected, block.query_norm, block.key_norm);
    ggml_tensor * attn = attention(g, rotate(g, s.q, pe), rotate(g, s.k, pe), s.v, may_round(g, block.linear1), bias);
    ggml_tensor * mlp =
        two ? linear(g, rows(g, block.linear1, 3 * hidden_, mlp_), modulated)
            : ggml_view_2d(ctx, projected, mlp_, x->ne[1], projected->nb[1], 3 * hidden_ * projected->nb[0]);

    ggml_tensor * output = linear_gelu(g, block.linear2, mlp, attn);
    return ggml_add(ctx, x, ggml_mul(ctx, output, mod.gate));
}

}  // namespace ggflux
