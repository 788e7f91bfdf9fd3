#include "weights.hpp"
#include "runtime/error.hpp"

#include <algorithm>
#include <cmath>

namespace ggflux {

std::vector<uint8_t> Weights::convert(const std::vector<std::string> & files, const TensorEntry & entry, ggml_type type,
                                      const std::atomic<bool> & cancel, const std::function<void(float *)> & change) {
    const Weights weights(files, {entry});  // checks that the pieces are inside the files
    const size_t bytes = checked_bytes(entry);
    if (entry.type == type && entry.float8 == Float8::none && !change) {
        std::vector<uint8_t> same(bytes);
        weights.read(entry, 0, bytes, reinterpret_cast<char *>(same.data()), nullptr);
        return same;
    }
    if (entry.type != GGML_TYPE_F32 && entry.float8 == Float8::none && !ggml_get_type_traits(entry.type)->to_float) {
        throw Error("FLUX_UNSUPPORTED",
                    "tensor " + entry.name + ": numbers of the type " + ggml_type_name(entry.type) + " cannot be read");
    }
    const int64_t row = entry.shape[0];
    int64_t rows = 1;
    for (size_t i = 1; i < entry.shape.size(); i++) rows *= entry.shape[i];
    if (row % ggml_blck_size(type) != 0)
        throw Error("FLUX_BAD_SHAPE", "tensor " + entry.name + ": its rows are not whole blocks of the new type");
    std::vector<char> raw(bytes);
    std::vector<float> values(static_cast<size_t>(row * rows));
    weights.read(entry, 0, bytes, raw.data(), values.data());
    if (change) change(values.data());
    if (ggml_is_quantized(type) &&
        !std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
        throw Error("FLUX_BAD_FILE",
                    "tensor " + entry.name + " holds numbers that are not finite, which block types cannot hold");
    }
    std::vector<uint8_t> converted(ggml_row_size(type, row) * static_cast<size_t>(rows));
    const int64_t step = std::max<int64_t>(1, (1 << 16) / row);
    for (int64_t first = 0; first < rows; first += step) {
        if (cancel) throw Aborted();
        ggml_quantize_chunk(type, values.data(), converted.data(), first * row, std::min(step, rows - first), row,
                            nullptr);
    }
    return converted;
}

}  // namespace ggflux
