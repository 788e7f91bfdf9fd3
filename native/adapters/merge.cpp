#include "adapter.hpp"

#include <algorithm>

namespace ggflux {

namespace {

int64_t read_whole(const Napi::Object & row, const char * key, double least) {
    const double value = row.Get(key).ToNumber().DoubleValue();
    if (!(value >= least && value <= 1 << 24))
        throw Error("FLUX_BAD_FILE", std::string("an addition's ") + key + " is out of range");
    return static_cast<int64_t>(value);
}

Addition::Part read_part(const Napi::Value & value) {
    if (!value.IsObject()) return {};
    const Napi::Object part = value.As<Napi::Object>();
    const bool two = part.Has("up");
    return {part.Get("down").ToString(), two ? part.Get("up").ToString().Utf8Value() : "", read_whole(part, "in", 1),
            read_whole(part, "out", 1), two ? read_whole(part, "rank", 1) : 0};
}

Factor want_factor(Weights & weights, const Addition::Part & part) {
    if (part.up.empty()) return {weights.matrix(part.down, part.in, part.out), nullptr};
    return {weights.matrix(part.down, part.in, part.rank), weights.matrix(part.up, part.rank, part.out)};
}

bool is_hadamard(const Addition & a) { return a.kind == "hadamard"; }
bool is_kronecker(const Addition & a) { return a.kind == "kronecker"; }
bool is_replacement(const Addition & a) { return a.kind == "replacement"; }
bool is_for_vectors(const Addition & a) { return is_replacement(a) || a.kind == "difference"; }
// The image tokens may be wider than the model reads: what is behind is for additions.
bool may_widen(const Addition & a) { return a.kind == "product" && a.weight == "img_in.weight"; }

void check(const Addition & a, int64_t in, int64_t out) {
    const bool kronecker = is_kronecker(a);
    const int64_t width = kronecker ? a.one.in * a.two.in : a.one.in,
                  height = kronecker ? a.one.out * a.two.out : a.one.out;
    const bool same = !is_hadamard(a) || (a.two.in == width && a.two.out == height && a.one.rank > 0 && a.two.rank > 0);
    const bool kind = in == 1 ? is_for_vectors(a) && a.one.rank == 0 : !is_replacement(a);
    const bool rows = height == a.rows && a.first + a.rows <= out && (!a.halves_swapped || a.rows % 2 == 0) &&
                      (!is_replacement(a) || a.rows == out);
    const bool columns = width == in || (width > in && may_widen(a));
    if (!kind || !rows || !columns || !same) throw Error("FLUX_BAD_FILE", "an addition does not fit " + a.weight);
}

// A factor as numbers, one row of which is wanted at a time.
class Rows {
  public:
    Rows(const Addition::Part & part, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
         const std::atomic<bool> & cancel)
        : part_(part), down_(numbers(part.down, part.in, part.rank ? part.rank : part.out, files, tensors, cancel)),
          row_(static_cast<size_t>(part.in)) {
        if (part.rank) up_ = numbers(part.up, part.rank, part.out, files, tensors, cancel);
    }

    const std::vector<float> & operator()(int64_t i) {
        const auto in = static_cast<size_t>(part_.in);
        if (up_.empty()) {
            std::copy_n(down_.begin() + i * part_.in, in, row_.begin());
            return row_;
        }
        std::fill(row_.begin(), row_.end(), 0.0f);
        for (int64_t r = 0; r < part_.rank; r++) {
            const float factor = up_[static_cast<size_t>(i * part_.rank + r)];
            const float * down = down_.data() + r * part_.in;
            for (size_t j = 0; j < in; j++) row_[j] += factor * down[j];
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
            throw Error("FLUX_BAD_FILE", "an addition's tensor " + name + " has another shape");
        const std::vector<uint8_t> bytes = Weights::convert(files, *entry, GGML_TYPE_F32, cancel);
        std::vector<float> values(bytes.size() / sizeof(float));
        std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(values.data()));
        return values;
    }

    const Addition::Part & part_;
    std::vector<float> down_, up_, row_;
};

}  // namespace

std::vector<Addition> read_additions(const Napi::Array & list) {
    std::vector<Addition> additions;
    for (uint32_t i = 0; i < list.Length(); i++) {
        const Napi::HandleScope scope(list.Env());
        const Napi::Object row = list.Get(i).As<Napi::Object>();
        additions.push_back({row.Get("weight").ToString(), row.Get("kind").ToString(), read_part(row.Get("one")),
                             read_part(row.Get("two")), read_whole(row, "first", 0), read_whole(row, "rows", 1),
                             row.Get("scale").ToNumber().FloatValue(), row.Get("halvesSwapped").ToBoolean()});
    }
    return additions;
}

Adapter want_adapter(Weights & weights, const Addition & a, int64_t in, int64_t out) {
    check(a, in, out);
    const bool hadamard = is_hadamard(a), kronecker = is_kronecker(a);
    const auto kind = hadamard                 ? Adapter::Kind::hadamard
                      : kronecker              ? Adapter::Kind::kronecker
                      : is_replacement(a)      ? Adapter::Kind::replacement
                      : a.kind == "difference" ? Adapter::Kind::difference
                                               : Adapter::Kind::product;
    const Factor one =
        in == 1 ? Factor{weights.values(a.one.down, {1, a.one.out}), nullptr} : want_factor(weights, a.one);
    const Factor two = hadamard || kronecker ? want_factor(weights, a.two) : Factor{};
    return {kind, one, two, a.scale, a.first, a.halves_swapped};
}

void merge(const Addition & a, const std::vector<std::string> & files, const std::vector<TensorEntry> & tensors,
           int64_t first, int64_t count, int64_t in, float * values, const std::atomic<bool> & cancel) {
    check(a, in, a.first + a.rows);
    const int64_t begin = std::max(first, a.first), end = std::min(first + count, a.first + a.rows);
    if (begin >= end) return;
    Rows one(a.one, files, tensors, cancel);
    if (!is_hadamard(a) && !is_kronecker(a)) {
        for (int64_t i = begin; i < end; i++) {
            const auto & row = one(a.source_row(i - a.first));
            float * to = values + (i - first) * in;
            for (int64_t j = 0; j < in; j++)
                to[j] += a.scale * (row[static_cast<size_t>(j)] - (is_replacement(a) ? to[j] : 0));
        }
        return;
    }
    Rows two(a.two, files, tensors, cancel);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = a.source_row(i - a.first);
        float * to = values + (i - first) * in;
        if (is_hadamard(a)) {
            const auto & left = one(row);
            const auto & right = two(row);
            for (int64_t j = 0; j < in; j++)
                to[j] += a.scale * left[static_cast<size_t>(j)] * right[static_cast<size_t>(j)];
        } else {
            const auto & left = one(row / a.two.out);
            const auto & right = two(row % a.two.out);
            for (const float outer : left) {
                for (const float inner : right) *to++ += a.scale * outer * inner;
            }
        }
    }
}

}  // namespace ggflux
