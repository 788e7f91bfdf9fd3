#include "adapter.hpp"
#include "runtime/error.hpp"

#include <algorithm>

namespace ggflux {

namespace {

// The row of M that is added to row `first_row + i` of the matrix.
int64_t source_row(const AdapterSpec & a, int64_t i) { return a.halves_swapped ? (i + a.rows / 2) % a.rows : i; }

// Returns the rows of a factor, one at a time.
class FactorRows {
  public:
    FactorRows(const FactorSpec & factor, const std::vector<std::string> & files,
               const std::vector<TensorEntry> & tensors, const std::atomic<bool> & cancel)
        : factor_(factor),
          down_(numbers(factor.down, factor.in, factor.rank ? factor.rank : factor.out, files, tensors, cancel)),
          row_(static_cast<size_t>(factor.in)) {
        if (factor.rank) up_ = numbers(factor.up, factor.rank, factor.out, files, tensors, cancel);
    }

    const std::vector<float> & operator()(int64_t i) {
        const auto in = static_cast<size_t>(factor_.in);
        if (up_.empty()) {
            std::copy_n(down_.begin() + i * factor_.in, in, row_.begin());
            return row_;
        }
        std::fill(row_.begin(), row_.end(), 0.0f);
        for (int64_t r = 0; r < factor_.rank; r++) {
            const float weight = up_[static_cast<size_t>(i * factor_.rank + r)];
            const float * down = down_.data() + r * factor_.in;
            for (size_t j = 0; j < in; j++) row_[j] += weight * down[j];
        }
        return row_;
    }

  private:
    static std::vector<float> numbers(const std::string & name, int64_t in, int64_t out,
                                      const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
                                      const std::atomic<bool> & cancel) {
        const auto entry = std::find_if(tensors.begin(), tensors.end(),
                                        [&](const TensorEntry & tensor) { return tensor.name == name; });
        if (entry == tensors.end() || entry->shape != std::vector<int64_t>{in, out})
            throw Error("FLUX_BAD_FILE", "an adapter's tensor " + name + " has another shape");
        const std::vector<uint8_t> bytes = Weights::convert(files, *entry, GGML_TYPE_F32, cancel);
        std::vector<float> values(bytes.size() / sizeof(float));
        std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(values.data()));
        return values;
    }

    const FactorSpec & factor_;
    std::vector<float> down_, up_, row_;
};

}  // namespace

void merge(const AdapterSpec & a, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
           int64_t first, int64_t count, int64_t in, float * values, const std::atomic<bool> & cancel) {
    check_fits(a, in, a.first_row + a.rows);
    const int64_t begin = std::max(first, a.first_row), end = std::min(first + count, a.first_row + a.rows);
    if (begin >= end) return;
    const bool replaced = a.kind == AdapterKind::replacement, hadamard = a.kind == AdapterKind::hadamard;
    const auto cell = [](const std::vector<float> & row, int64_t j) { return row[static_cast<size_t>(j)]; };
    FactorRows left(a.left, files, tensors, cancel);
    if (!a.has_two_factors()) {
        for (int64_t i = begin; i < end; i++) {
            const auto & row = left(source_row(a, i - a.first_row));
            float * to = values + (i - first) * in;
            for (int64_t j = 0; j < in; j++) to[j] += a.scale * (cell(row, j) - (replaced ? to[j] : 0));
        }
        return;
    }
    FactorRows right(a.right, files, tensors, cancel);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = source_row(a, i - a.first_row);
        float * to = values + (i - first) * in;
        const auto & outer = left(hadamard ? row : row / a.right.out);
        const auto & inner = right(hadamard ? row : row % a.right.out);
        if (hadamard) {
            for (int64_t j = 0; j < in; j++) to[j] += a.scale * cell(outer, j) * cell(inner, j);
        } else {
            for (const float x : outer) {
                for (const float y : inner) *to++ += a.scale * x * y;
            }
        }
    }
}

}  // namespace ggflux
