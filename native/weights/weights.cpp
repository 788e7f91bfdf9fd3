#include "weights.hpp"
#include "runtime/error.hpp"

#include <algorithm>

namespace ggflux {

namespace {

constexpr size_t max_tensors = 1 << 16;

std::string text(const std::vector<int64_t> & shape) {
    std::string result = "[";
    for (auto n = shape.rbegin(); n != shape.rend(); ++n)
        result += (n == shape.rbegin() ? "" : ", ") + std::to_string(*n);
    return result + "]";
}

}  // namespace

size_t checked_bytes(const TensorEntry & entry) {
    const auto bad = [&](const char * what) -> Error {
        return Error("FLUX_BAD_FILE", "tensor " + entry.name + ": " + what);
    };
    if (ggml_blck_size(entry.type) <= 0) throw bad("unknown type");
    if (entry.shape.empty() || entry.shape.size() > GGML_MAX_DIMS) throw bad("1 to 4 dimensions are possible");
    int64_t elements = 1;
    for (const int64_t n : entry.shape) {
        if (n < 1 || n > INT32_MAX || elements > (int64_t{1} << 48) / n) throw bad("dimension out of range");
        elements *= n;
    }
    if (entry.shape[0] % ggml_blck_size(entry.type) != 0) throw bad("rows are not whole blocks of its type");
    if (entry.float8 != Float8::none) {
        if (entry.type != GGML_TYPE_BF16 && entry.type != GGML_TYPE_F32) throw bad("float8 becomes BF16 or F32");
        return static_cast<size_t>(elements);
    }
    return ggml_row_size(entry.type, entry.shape[0]) * static_cast<size_t>(elements / entry.shape[0]);
}

Weights::Weights(const std::vector<std::string> & files, std::vector<TensorEntry> table) {
    if (table.size() > max_tensors)
        throw Error("FLUX_BAD_FILE", std::to_string(table.size()) + " tensors are too many");
    for (const std::string & path : files) files_.emplace_back(path);
    for (TensorEntry & entry : table) {
        const size_t bytes = checked_bytes(entry);
        size_t given = 0;
        for (const Piece & piece : entry.pieces) {
            if (piece.file >= files_.size())
                throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": no such file in the list");
            const MappedFile & file = files_[piece.file];
            const auto inside = [&](size_t offset, size_t count) {
                return offset <= file.size() && count <= file.size() - offset;
            };
            if (!inside(piece.offset, piece.bytes) ||
                (piece.scale != SIZE_MAX && !inside(piece.scale, sizeof(float)))) {
                throw Error("FLUX_BAD_FILE", "tensor " + entry.name + " reaches past the end of " + file.path());
            }
            given += std::min(piece.bytes, bytes + 1);  // cannot overflow
        }
        if (given != bytes)
            throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": its pieces have not the size of its shape");
        std::string name = entry.name;
        table_.emplace(std::move(name), std::move(entry));
    }
    context_.reset(ggml_init({ggml_tensor_overhead() * (table_.size() + 1), nullptr, true}));
    if (!context_) throw Error("FLUX_OUT_OF_MEMORY", "no memory for the list of tensors");
}

ggml_tensor * Weights::declare(const std::string & name, std::vector<int64_t> shape, Role role) {
    const auto found = table_.find(name);
    if (found == table_.end()) throw Error("FLUX_BAD_FILE", "tensor " + name + " is missing");
    if (declared_.size() == table_.size())
        // The context has space for each tensor once.
        throw Error("FLUX_BAD_FILE", "tensor " + name + " is declared twice");
    const TensorEntry & entry = found->second;
    if (entry.shape != shape)
        throw Error("FLUX_BAD_FILE",
                    "tensor " + name + " has the shape " + text(entry.shape) + ", " + text(shape) + " is needed");
    const bool plain = entry.type == GGML_TYPE_F32 || entry.type == GGML_TYPE_F16 || entry.type == GGML_TYPE_BF16;
    if (!plain && (!ggml_is_quantized(entry.type) || !ggml_get_type_traits(entry.type)->to_float)) {
        throw Error("FLUX_UNSUPPORTED", "tensor " + name + " cannot be of type " + ggml_type_name(entry.type));
    }
    ggml_tensor * tensor = ggml_new_tensor(context_.get(), role == Role::f32 ? GGML_TYPE_F32 : entry.type,
                                           static_cast<int>(shape.size()), shape.data());
    ggml_set_name(tensor, name.c_str());
    declared_.push_back({tensor, &entry, role});
    return tensor;
}

Linear Weights::linear(const std::string & name, int64_t in, int64_t out, bool bias) {
    return {matrix(name + ".weight", in, out), bias ? declare(name + ".bias", {out}, Role::f32) : nullptr};
}

ggml_tensor * Weights::matrix(const std::string & name, int64_t in, int64_t out) {
    return declare(name, {in, out}, Role::matrix);
}

ggml_tensor * Weights::find(const std::string & name) const {
    const auto found = std::find_if(declared_.begin(), declared_.end(),
                                    [&](const Declared & declared) { return declared.entry->name == name; });
    return found == declared_.end() ? nullptr : found->tensor;
}

Norm Weights::layer_norm(const std::string & name, int64_t n) {
    return {declare(name + ".weight", {n}, Role::f32), declare(name + ".bias", {n}, Role::f32)};
}

ggml_tensor * Weights::scale(const std::string & name, int64_t n) { return declare(name, {n}, Role::f32); }

ggml_tensor * Weights::table(const std::string & name, int64_t width, int64_t rows) {
    return declare(name, {width, rows}, Role::rows);
}

ggml_tensor * Weights::f32_tensor(const std::string & name, std::vector<int64_t> shape) {
    return declare(name, std::move(shape), Role::f32);
}

Conv Weights::conv(const std::string & name, int64_t kernel, int64_t in, int64_t out) {
    return {declare(name + ".weight", {kernel, kernel, in, out}, Role::f32), declare(name + ".bias", {out}, Role::f32)};
}

}  // namespace ggflux
