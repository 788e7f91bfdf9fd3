// What LoRAs and their like add to the matrices and vectors of a network: beside the weights in a graph, or merged into them.
#pragma once

#include "weights/weights.hpp"

#include <napi.h>

namespace ggflux {

// As lib/native.ts describes it. M is `one`, or made of `one` and `two`; of a vector it has one column.
struct Addition {
    struct Part {
        std::string down, up;
        int64_t in = 0, out = 0, rank = 0;
    };  // without `up` the rank is 0
    std::string weight, kind;
    Part one, two;
    int64_t first, rows;
    float scale;
    bool halves_swapped;

    // The row of M that belongs to row `first + i` of the matrix.
    int64_t source_row(int64_t i) const { return halves_swapped ? (i + rows / 2) % rows : i; }
};

std::vector<Addition> read_additions(const Napi::Array & list);

// What it is in a graph, with tensors that `weights` will load. Refuses what makes no matrix of the layer's width and some of its rows. `in` is 1 for
// a vector.
Adapter want_adapter(Weights & weights, const Addition & addition, int64_t in, int64_t out);

// Adds scale * M to the rows `first` to `first + count` of a matrix, or puts it in the place of a vector. `tensors` are in `files`.
void merge(const Addition & addition, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
           int64_t first, int64_t count, int64_t in, float * values, const std::atomic<bool> & cancel);

}  // namespace ggflux
