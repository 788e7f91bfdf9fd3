#include "adapter.hpp"
#include "kernels/linear.hpp"

namespace ggflux {

namespace {

ggml_tensor * as_f32(Graph & g, ggml_tensor * t) {
    return t->type == GGML_TYPE_F32 ? t : ggml_cast(g.ctx(), t, GGML_TYPE_F32);
}

ggml_tensor * annotated(Graph & g, ggml_tensor * weight, ggml_tensor * x, ggml_tensor * y) {
    return g.annotate(y, "adapter",
                      2.0 * static_cast<double>(ggml_nelements(weight)) * static_cast<double>(ggml_nrows(x)));
}

ggml_tensor * adapter_product(Graph & g, ggml_tensor * weight, ggml_tensor * x) {
    return annotated(g, weight, x, ggml_mul_mat(g.ctx(), g.unrounded(weight), x));
}

// up (down x). It uses our linear kernel if possible, and pads the rank with zeros for it. ggml is very slow at
// products with few rows: they would take a third of a step.
ggml_tensor * apply(Graph & g, const Factor & factor, ggml_tensor * x, bool round) {
    if (!factor.up) return adapter_product(g, factor.down, x);
    const int64_t rank = factor.down->ne[1], full = (rank + 31) / 32 * 32;
    const bool suits = g.cpu_threads() > 0 && x->ne[1] >= 32 && x->nb[0] == sizeof(float) &&
                       kernels::linear_suits(GGML_TYPE_F32, x->ne[0], full, round) &&
                       kernels::linear_suits(GGML_TYPE_F32, full, factor.up->ne[1], round);
    if (!suits) return adapter_product(g, factor.up, adapter_product(g, factor.down, x));
    const auto product = [&](ggml_tensor * weight, int64_t more_in, int64_t more_out, ggml_tensor * columns) {
        ggml_tensor * filled =
            ggml_pad(g.ctx(), as_f32(g, weight), static_cast<int>(more_in), static_cast<int>(more_out), 0, 0);
        return annotated(g, weight, columns,
                         kernels::linear(g.ctx(), filled, nullptr, {columns}, round, g.cpu_threads(), g.cancel()));
    };
    return product(factor.up, full - rank, 0, product(factor.down, 0, full - rank, x));
}

// (A B) * (C D), elementwise, equals a product E F. If A B has rank r and C D has rank s, E F has rank r s. Each row of
// F is the elementwise product of a row of B and a row of D, one for each pair. The columns of E are made from A and C
// with the same pairs.
ggml_tensor * apply_hadamard(Graph & g, const Factor & left, const Factor & right, ggml_tensor * x, bool round) {
    ggml_context * ctx = g.ctx();
    const int64_t in = left.down->ne[0], out = left.up->ne[1], r = left.down->ne[1], s = right.down->ne[1];
    const auto pairs = [&](ggml_tensor * a, ggml_tensor * b, int64_t n0, int64_t n1, int64_t n2) {
        return ggml_mul(ctx, ggml_repeat_4d(ctx, a, n0, n1, n2, 1), b);
    };
    ggml_tensor * down = pairs(ggml_reshape_3d(ctx, as_f32(g, left.down), in, 1, r), as_f32(g, right.down), in, s, r);
    ggml_tensor * up = pairs(ggml_reshape_3d(ctx, as_f32(g, left.up), 1, r, out),
                             ggml_reshape_3d(ctx, as_f32(g, right.up), s, 1, out), s, r, out);
    return apply(g, {ggml_reshape_2d(ctx, down, in, r * s), ggml_reshape_2d(ctx, up, r * s, out)}, x, round);
}

// The Kronecker product of A and B, times x. Each column of x is split into rows as wide as B. B is applied to each
// row, then A is applied across the rows.
ggml_tensor * apply_kronecker(Graph & g, const Factor & left, const Factor & right, ggml_tensor * x, bool round) {
    ggml_context * ctx = g.ctx();
    const int64_t rows = left.down->ne[0], columns = ggml_nrows(x);
    const auto swapped = [&](ggml_tensor * t) { return ggml_cont(ctx, ggml_permute(ctx, t, 1, 0, 2, 3)); };
    ggml_tensor * y = apply(
        g, right,
        ggml_reshape_2d(ctx, ggml_is_contiguous(x) ? x : ggml_cont(ctx, x), right.down->ne[0], rows * columns), round);
    const int64_t inner = y->ne[0];
    y = swapped(ggml_reshape_3d(ctx, y, inner, rows, columns));  // [rows, inner, columns]
    y = apply(g, left, ggml_reshape_2d(ctx, y, rows, inner * columns), round);
    const int64_t outer = y->ne[0];
    y = swapped(ggml_reshape_3d(ctx, y, outer, inner, columns));
    return ggml_reshape_2d(ctx, y, inner * outer, columns);
}

ggml_tensor * halves_swapped(Graph & g, ggml_tensor * x) {
    const int64_t half = x->ne[0] / 2;
    const auto rows = [&](int64_t first) {
        return ggml_cont(g.ctx(), ggml_view_2d(g.ctx(), x, half, x->ne[1], x->nb[1], first * x->nb[0]));
    };
    return ggml_concat(g.ctx(), rows(half), rows(0), 0);
}

// y + scale * more. It is done in place if `more` covers only some rows of y.
ggml_tensor * add_scaled(Graph & g, const Adapter & adapter, ggml_tensor * more, ggml_tensor * y) {
    if (adapter.halves_swapped) more = halves_swapped(g, more);
    more = ggml_scale(g.ctx(), more, adapter.scale);
    const bool all = more->ne[0] == y->ne[0];
    if (all) return ggml_add(g.ctx(), y, more);
    if (g.halves()) {
        // Vulkan's ACC ends the process above 33 million numbers, see docs/architecture.md#metal-and-vulkan
        const int64_t first = adapter.first_row, end = first + more->ne[0];
        const auto rows = [&](int64_t begin, int64_t stop) {
            return ggml_view_2d(g.ctx(), y, stop - begin, y->ne[1], y->nb[1], begin * y->nb[0]);
        };
        ggml_tensor * sum = ggml_add(g.ctx(), rows(first, end), more);
        if (first > 0) sum = ggml_concat(g.ctx(), rows(0, first), sum, 0);
        return end < y->ne[0] ? ggml_concat(g.ctx(), sum, rows(end, y->ne[0]), 0) : sum;
    }
    return ggml_acc_inplace(g.ctx(), y, more, y->nb[1], y->nb[2], y->nb[3], adapter.first_row * y->nb[0]);
}

}  // namespace

const std::vector<Adapter> & adapters_of(const Graph & g, const ggml_tensor * weight) {
    static const std::vector<Adapter> none;
    if (!g.adapters()) return none;
    const auto found = g.adapters()->of.find(weight);
    return found == g.adapters()->of.end() ? none : found->second;
}

ggml_tensor * first_rows(Graph & g, ggml_tensor * x, int64_t count) {
    return count == x->ne[0] ? x : ggml_cont(g.ctx(), ggml_view_2d(g.ctx(), x, count, x->ne[1], x->nb[1], 0));
}

ggml_tensor * adapted(Graph & g, const ggml_tensor * weight, ggml_tensor * x, ggml_tensor * y, bool round) {
    for (const Adapter & a : adapters_of(g, weight)) {
        const bool hadamard = a.kind == AdapterKind::hadamard, kronecker = a.kind == AdapterKind::kronecker;
        ggml_tensor * read = first_rows(g, x, hadamard || kronecker ? weight->ne[0] : a.left.down->ne[0]);
        ggml_tensor * more = hadamard    ? apply_hadamard(g, a.left, a.right, read, round)
                             : kronecker ? apply_kronecker(g, a.left, a.right, read, round)
                                         : apply(g, a.left, read, round);
        y = add_scaled(g, a, more, y);
    }
    return y;
}

ggml_tensor * adapted(Graph & g, ggml_tensor * vector) {
    const std::vector<Adapter> & adapters = adapters_of(g, vector);
    if (adapters.empty()) return vector;
    vector = ggml_dup(g.ctx(), vector);  // so that the weights do not change
    for (const Adapter & a : adapters) {
        ggml_tensor * more = ggml_reshape_1d(g.ctx(), a.left.down, a.left.down->ne[1]);
        if (a.kind == AdapterKind::replacement) more = ggml_sub(g.ctx(), more, vector);
        vector = add_scaled(g, a, more, vector);
    }
    return vector;
}

}  // namespace ggflux
