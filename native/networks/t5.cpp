#include "t5.hpp"

namespace ggflux {

namespace { constexpr float eps = 1e-6f; }

T5::T5(const Config & config, Weights & w)
    : d_model_(config.get("dModel", 1, 1 << 16)), d_kv_(config.get("dKv", 1, 4096)),
      heads_(config.get("numHeads", 1, 1024)), d_ff_(config.get("dFf", 1, 1 << 18)), vocab_(config.get("vocabSize")),
      buckets_(config.get("numBuckets", 2, 4096)) {
    const int64_t inner = heads_ * d_kv_;
    shared_ = w.table("shared.weight", d_model_, vocab_);
    relative_attention_bias_ =
        w.f32_tensor("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", {heads_, buckets_});
    for (int64_t i = 0; i < config.get("numLayers", 1, 1024); i++) {
        const std::string block = "encoder.block." + std::to_string(i);
        const std::string attention = block + ".layer.0.SelfAttention.", ff = block + ".layer.1.DenseReluDense.";
        blocks_.push_back(
            {w.linear(attention + "q", d_model_, inner, false), w.linear(attention + "k", d_model_, inner, false),
             w.linear(attention + "v", d_model_, inner, false), w.linear(attention + "o", inner, d_model_, false),
             w.linear(ff + "wi_0", d_model_, d_ff_, false), w.linear(ff + "wi_1", d_model_, d_ff_, false),
             w.linear(ff + "wo", d_ff_, d_model_, false), w.scale(block + ".layer.0.layer_norm.weight", d_model_),
             w.scale(block + ".layer.1.layer_norm.weight", d_model_)});
    }
    final_norm_ = w.scale("encoder.final_layer_norm.weight", d_model_);
}

void T5::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "encode") bad_mode(mode);
    ggml_context * ctx = g.ctx();
    const int64_t n = dimension(shape, 0, 1, 4096, "the number of tokens");
    ggml_tensor * tokens = g.indices(n, vocab_);
    ggml_tensor * buckets = g.indices(n * n, buckets_);

    // [heads, query * key] -> [key, query, heads]
    ggml_tensor * bias = ggml_get_rows(ctx, relative_attention_bias_, buckets);
    bias = ggml_cont(ctx, ggml_permute(ctx, ggml_reshape_3d(ctx, bias, heads_, n, n), 2, 0, 1, 3));

    ggml_tensor * x = ggml_get_rows(ctx, shared_, tokens);  // [d_model, n]
    for (const Block & block : blocks_) {
        ggml_tensor * y = rms_norm(g, block.attention_norm, x, eps);
        const auto heads = [&](const Linear & projection) {
            return ggml_reshape_3d(ctx, linear(g, projection, y), d_kv_, heads_, n);
        };
        y = attention_with_bias(g, heads(block.q), heads(block.k), heads(block.v), 1.0f, bias);
        x = ggml_add(ctx, x, linear(g, block.o, y));

        y = rms_norm(g, block.ff_norm, x, eps);
        y = ggml_mul(ctx, ggml_gelu(ctx, linear(g, block.wi_0, y)), linear(g, block.wi_1, y));
        x = ggml_add(ctx, x, linear(g, block.wo, y, Range::wide));
        g.stop_point(x);
    }
    g.output(rms_norm(g, final_norm_, x, eps));
}

}  // namespace ggflux
