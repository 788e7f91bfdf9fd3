// Adapters (LoRAs and similar) change the matrices and vectors of a network. They are added in the graph, next to the
// weights, or merged into the weights.
#pragma once

#include "runtime/graph.hpp"
#include "weights/weights.hpp"

namespace ggflux {

// product: LoRA. hadamard: LoHa, an elementwise product. kronecker: LoKr.
enum class AdapterKind { product, hadamard, kronecker, difference, replacement };

// A matrix with `out` rows and `in` columns. It is `up` times `down`, or only `down` if the rank is 0.
struct FactorSpec {
    std::string down, up;
    int64_t in = 0, out = 0, rank = 0;
};

// The change that an adapter makes to rows `first_row` to `first_row + rows` of the tensor `weight`. For a matrix,
// scale * M is added. M is `left` (product, difference) or is computed from `left` and `right`. For a vector v,
// scale * d (difference) or scale * (d - v) (replacement) is added. d is `left`, a matrix with one column.
// halves_swapped: the upper and the lower half of M or d are swapped first.
struct AdapterSpec {
    std::string weight;
    AdapterKind kind;
    FactorSpec left, right;
    int64_t first_row, rows;
    float scale;
    bool halves_swapped;

    bool has_two_factors() const { return kind == AdapterKind::hadamard || kind == AdapterKind::kronecker; }
};

// The same specifications, with tensors instead of names.
struct Factor {
    ggml_tensor *down, *up;  // [in, rank] and [rank, out], or [in, out] and null
};
struct Adapter {
    AdapterKind kind;
    Factor left, right;
    int64_t first_row;
    float scale;
    bool halves_swapped;
};
struct Adapters {
    std::unordered_map<const ggml_tensor *, std::vector<Adapter>> of;  // by the matrix or vector that they change

    size_t max_nodes() const;  // that the adapters add to a graph
};

// Throws Error if M does not have the tensor's width, or has rows that the tensor does not have. in: 1 for a vector
void check_fits(const AdapterSpec & spec, int64_t in, int64_t out);

// Declares the adapters' tensors to `weights`. The caller then loads `weights`. `network`: the weights that the
// adapters change.
Adapters declare_adapters(const std::vector<AdapterSpec> & specs, const Weights & network, Weights & weights);

const std::vector<Adapter> & adapters_of(const Graph & g, const ggml_tensor * weight);

// A bias, or the scale or shift of a norm, with the adapters applied. Null stays null.
ggml_tensor * adapted(Graph & g, ggml_tensor * vector);

// y = W x, plus what the adapters add to W. round: activations may be rounded
ggml_tensor * adapted(Graph & g, const ggml_tensor * weight, ggml_tensor * x, ggml_tensor * y, bool round);

// The first `count` numbers of each column. This is the part of x that the layer itself reads, where adapters read
// more.
ggml_tensor * first_rows(Graph & g, ggml_tensor * x, int64_t count);

// Merges an adapter into rows `first` to `first + count` of the tensor. The tensor has `in` columns, and `values` are
// its numbers. `files` contain `tensors`.
void merge(const AdapterSpec & spec, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
           int64_t first, int64_t count, int64_t in, float * values, const std::atomic<bool> & cancel);

}  // namespace ggflux
