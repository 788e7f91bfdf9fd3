#include "adapter.hpp"
#include "runtime/error.hpp"

namespace ggflux {

namespace {

// The image tokens can be wider than what the model itself reads. Adapters read the rest.
bool may_widen(const AdapterSpec & a) { return a.kind == AdapterKind::product && a.weight == "img_in.weight"; }

Factor declare_factor(Weights & weights, const FactorSpec & factor) {
    if (factor.up.empty()) return {weights.matrix(factor.down, factor.in, factor.out), nullptr};
    return {weights.matrix(factor.down, factor.in, factor.rank), weights.matrix(factor.up, factor.rank, factor.out)};
}

Adapter declare_adapter(Weights & weights, const AdapterSpec & a, int64_t in, int64_t out) {
    check_fits(a, in, out);
    const Factor left =
        in == 1 ? Factor{weights.f32_tensor(a.left.down, {1, a.left.out}), nullptr} : declare_factor(weights, a.left);
    const Factor right = a.has_two_factors() ? declare_factor(weights, a.right) : Factor{};
    return {a.kind, left, right, a.first_row, a.scale, a.halves_swapped};
}

}  // namespace

size_t Adapters::max_nodes() const {
    size_t count = 0;
    for (const auto & [weight, adapters] : of) count += adapters.size();
    return 32 * count;
}

void check_fits(const AdapterSpec & a, int64_t in, int64_t out) {
    const bool kronecker = a.kind == AdapterKind::kronecker, replacement = a.kind == AdapterKind::replacement;
    const int64_t width = kronecker ? a.left.in * a.right.in : a.left.in,
                  height = kronecker ? a.left.out * a.right.out : a.left.out;
    const bool same = a.kind != AdapterKind::hadamard ||
                      (a.right.in == width && a.right.out == height && a.left.rank > 0 && a.right.rank > 0);
    const bool kind = in == 1 ? (replacement || a.kind == AdapterKind::difference) && a.left.rank == 0 : !replacement;
    const bool rows = height == a.rows && a.first_row + a.rows <= out && (!a.halves_swapped || a.rows % 2 == 0) &&
                      (!replacement || a.rows == out);
    const bool columns = width == in || (width > in && may_widen(a));
    if (!kind || !rows || !columns || !same) throw Error("FLUX_BAD_FILE", "an adapter does not fit " + a.weight);
}

Adapters declare_adapters(const std::vector<AdapterSpec> & specs, const Weights & network, Weights & weights) {
    Adapters adapters;
    for (const AdapterSpec & spec : specs) {
        const ggml_tensor * weight = network.find(spec.weight);
        if (!weight || weight->ne[2] != 1)
            throw Error("FLUX_BAD_FILE", "an adapter is for " + spec.weight + ", which is no layer");
        const bool vector = ggml_n_dims(weight) == 1;
        adapters.of[weight].push_back(
            declare_adapter(weights, spec, vector ? 1 : weight->ne[0], weight->ne[vector ? 0 : 1]));
    }
    return adapters;
}

}  // namespace ggflux
