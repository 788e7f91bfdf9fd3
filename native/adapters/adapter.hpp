// Adapters (LoRAs and the like) add to the matrices and vectors of a network: in its graph, next to the weights, or merged into the weights.
#pragma once

#include "runtime/graph.hpp"
#include "weights/weights.hpp"

namespace ggflux {

// product: a LoRA. hadamard: elementwise, a LoHa. kronecker: a LoKr.
enum class AdapterKind { product, hadamard, kronecker, difference, replacement };

// A matrix of `out` rows and `in` columns: `up` times `down`, or `down` alone, with rank 0.
struct FactorSpec {
    std::string down, up;
    int64_t in = 0, out = 0, rank = 0;
};

// What an adapter adds to rows `first_row` to `first_row + rows` of the tensor `weight`. A matrix grows by scale * M, where M is `left` (product,
// difference), or made of `left` and `right`. A vector v grows by scale * d (difference) or by scale * (d - v) (replacement), where d is `left`, a
// matrix of one column. halves_swapped: the upper and the lower half of M or d change places first.
struct AdapterSpec {
    std::string weight;
    AdapterKind kind;
    FactorSpec left, right;
    int64_t first_row, rows;
    float scale;
    bool halves_swapped;

    bool has_two_factors() const { return kind == AdapterKind::hadamard || kind == AdapterKind::kronecker; }
};

// The same with tensors.
struct Factor {
    ggml_tensor *down, *up;  // [in, rank] and [rank, out]; or [in, out] and null
};
struct Adapter {
    AdapterKind kind;
    Factor left, right;
    int64_t first_row;
    float scale;
    bool halves_swapped;
};
struct Adapters {
    std::unordered_map<const ggml_tensor *, std::vector<Adapter>> of;  // the matrix or vector

    size_t max_nodes() const;  // that they add to a graph
};

// Throws Error if M is no matrix of the tensor's width and some of its rows. in: 1 if it is a vector
void check_fits(const AdapterSpec & spec, int64_t in, int64_t out);

// Declares their tensors to `weights`, which the caller then loads. `network`: the weights that they adapt.
Adapters declare_adapters(const std::vector<AdapterSpec> & specs, const Weights & network, Weights & weights);

const std::vector<Adapter> & adapters_of(const Graph & g, const ggml_tensor * weight);

// A bias, or the scale or shift of a norm, with what adapters make of it; null stays null.
ggml_tensor * adapted(Graph & g, ggml_tensor * vector);

// y = W x, with what adapters add to W. round: activations may be rounded
ggml_tensor * adapted(Graph & g, const ggml_tensor * weight, ggml_tensor * x, ggml_tensor * y, bool round);

// The first `count` numbers of each column: a layer's own part of x, where adapters read more.
ggml_tensor * first_rows(Graph & g, ggml_tensor * x, int64_t count);

// Merges into rows `first` to `first + count` of the tensor, which has `in` columns and the numbers `values`. `tensors` are in `files`.
void merge(const AdapterSpec & spec, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
           int64_t first, int64_t count, int64_t in, float * values, const std::atomic<bool> & cancel);

}  // namespace ggflux
