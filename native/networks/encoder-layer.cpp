#include "encoder-layer.hpp"
#include "runtime/error.hpp"

#include <cmath>

namespace ggflux {

EncoderShape::EncoderShape(const Config & config)
    : hidden(config.get("hiddenSize", 1, 1 << 16)), heads(config.get("numHeads", 1, 1024)),
      intermediate(config.get("intermediateSize", 1, 1 << 18)), layers(config.get("numLayers", 1, 1024)) {
    if (hidden % heads != 0) throw Error("FLUX_BAD_OPTION", "config.hiddenSize must be a multiple of numHeads");
}

std::vector<EncoderLayer> encoder_layers(Weights & w, const std::string & prefix, const EncoderShape & shape) {
    std::vector<EncoderLayer> layers;
    for (int64_t i = 0; i < shape.layers; i++) {
        const std::string layer = prefix + std::to_string(i) + ".";
        const auto projection = [&](const char * name) {
            return w.linear(layer + "self_attn." + name, shape.hidden, shape.hidden);
        };
        layers.push_back({w.layer_norm(layer + "layer_norm1", shape.hidden),
                          w.layer_norm(layer + "layer_norm2", shape.hidden), projection("q_proj"), projection("k_proj"),
                          projection("v_proj"), projection("out_proj"),
                          w.linear(layer + "mlp.fc1", shape.hidden, shape.intermediate),
                          w.linear(layer + "mlp.fc2", shape.intermediate, shape.hidden)});
    }
    return layers;
}

ggml_tensor * encode(Graph & g, const std::vector<EncoderLayer> & layers, const EncoderShape & shape,
                     const EncoderRules & rules, ggml_tensor * x) {
    ggml_context * ctx = g.ctx();
    const int64_t head_dim = shape.hidden / shape.heads, n = x->ne[1];
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    for (const EncoderLayer & layer : layers) {
        ggml_tensor * y = layer_norm(g, layer.layer_norm1, x, rules.eps);
        const auto heads = [&](const Linear & projection) {
            return ggml_reshape_3d(ctx, linear(g, projection, y), head_dim, shape.heads, n);
        };
        ggml_tensor *q = heads(layer.q), *k = heads(layer.k), *v = heads(layer.v);
        y = rules.causal ? causal_attention(g, q, k, v, scale) : attention(g, q, k, v, may_round(g, layer.q));
        x = ggml_add(ctx, x, linear(g, layer.out, y));

        y = linear(g, layer.fc1, layer_norm(g, layer.layer_norm2, x, rules.eps));
        y = rules.quick_gelu ? linear(g, layer.fc2, ggml_gelu_quick(ctx, y)) : linear_gelu(g, layer.fc2, y);
        x = ggml_add(ctx, x, y);
        g.stop_point(x);
    }
    return x;
}

}  // namespace ggflux
