#include "weights.hpp"

#include "runtime/in-parallel.hpp"
#include "kernels/linear.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>

namespace ggflux {

// ---- files ----

namespace {

int64_t nanoseconds(const struct stat & status) {
#ifdef __APPLE__
    const timespec & time = status.st_mtimespec;
#else
    const timespec & time = status.st_mtim;
#endif
    return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

}  // namespace

struct Weights::File {
    std::string path;
    int descriptor = -1;
    size_t size = 0;
    int64_t modified = 0;  // nanoseconds since 1970
    void * mapping = nullptr;

    // Delegates, so that the destructor closes the file where the rest of it throws.
    explicit File(const std::string & path) : File() {
        this->path = path;
        descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) throw Error("FLUX_NOT_FOUND", path + " cannot be opened: " + std::strerror(errno));
        struct stat status{};
        if (::fstat(descriptor, &status) != 0)
            throw Error("FLUX_BAD_FILE", path + " cannot be read: " + std::strerror(errno));
        size = static_cast<size_t>(status.st_size);
        modified = nanoseconds(status);
    }
    File(File && other) noexcept
        : path(std::move(other.path)), descriptor(std::exchange(other.descriptor, -1)), size(other.size),
          modified(other.modified), mapping(std::exchange(other.mapping, nullptr)) {}
    ~File() {
        if (mapping) ::munmap(mapping, size);
        close();
    }

    void close() {
        if (descriptor >= 0) ::close(std::exchange(descriptor, -1));
    }

    bool unchanged() const {
        struct stat status{};
        return ::fstat(descriptor, &status) == 0 && static_cast<size_t>(status.st_size) == size &&
               nanoseconds(status) == modified;
    }

    char * map() {
        if (!mapping) {
            void * address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
            if (address == MAP_FAILED)
                throw Error("FLUX_OUT_OF_MEMORY", path + " cannot be mapped into memory: " + std::strerror(errno));
            mapping = address;
        }
        return static_cast<char *>(mapping);
    }

    void read(size_t offset, char * into, size_t count) const {
        while (count > 0) {
            const ssize_t got = ::pread(descriptor, into, count, static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0)
                throw Error("FLUX_BAD_FILE", path + " ended or failed while it was read; was it changed meanwhile?");
            into += got;
            offset += static_cast<size_t>(got);
            count -= static_cast<size_t>(got);
        }
    }

  private:
    File() = default;
};

// ---- the table ----

namespace {

std::string text(const std::vector<int64_t> & shape) {
    std::string result = "[";
    for (auto n = shape.rbegin(); n != shape.rend(); ++n)
        result += (n == shape.rbegin() ? "" : ", ") + std::to_string(*n);
    return result + "]";
}

// Refuses what would make ggml abort: TypeScript has checked all of it and said it better.
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

// Sign, 4 or 5 bits of exponent, the rest of mantissa. e4m3fn (IEEE's exponents end one earlier) has no infinity and one NaN; e5m2 is the upper half of an F16.
float decode_float8(Float8 type, uint8_t bits) {
    if (type == Float8::e5m2) return ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits << 8));
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
    const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                     : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    return bits >> 7 ? -size : size;
}

void decode_float8(Float8 type, float scale, const uint8_t * from, size_t count, float * to) {
    float values[256];
    for (int bits = 0; bits < 256; bits++) values[bits] = decode_float8(type, static_cast<uint8_t>(bits)) * scale;
    for (size_t i = 0; i < count; i++) to[i] = values[from[i]];
}

// Gigabytes that are about to be written: in pages of 4 KiB the page faults alone take longer than repacking.
void use_huge_pages(char * address, size_t size) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(address) + page - 1) / page * page,
                    end = (reinterpret_cast<uintptr_t>(address) + size) / page * page;
    if (begin < end)
        ::madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);  // a wish; nothing depends on it
#else
    (void) address, (void) size;
#endif
}

constexpr size_t max_tensors = 1 << 16;
constexpr size_t max_scratch = size_t{1} << 24;

}  // namespace

Weights::Weights(std::vector<std::string> files, std::vector<TensorEntry> table) {
    if (table.size() > max_tensors)
        throw Error("FLUX_BAD_FILE", std::to_string(table.size()) + " tensors are too many");
    for (const std::string & path : files) files_.emplace_back(path);
    for (TensorEntry & entry : table) {
        const size_t bytes = checked_bytes(entry);
        size_t given = 0;
        for (const Piece & piece : entry.pieces) {
            if (piece.file >= files_.size())
                throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": no such file in the list");
            const File & file = files_[piece.file];
            const auto inside = [&](size_t offset, size_t count) {
                return offset <= file.size && count <= file.size - offset;
            };
            if (!inside(piece.offset, piece.bytes) ||
                (piece.scale != SIZE_MAX && !inside(piece.scale, sizeof(float)))) {
                throw Error("FLUX_BAD_FILE", "tensor " + entry.name + " reaches past the end of " + file.path);
            }
            given += std::min(piece.bytes, bytes + 1);  // more than are needed is enough to know
        }
        if (given != bytes)
            throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": its pieces have not the size of its shape");
        std::string name = entry.name;
        table_.emplace(std::move(name), std::move(entry));
    }
    context_.reset(ggml_init({ggml_tensor_overhead() * (table_.size() + 1), nullptr, true}));
    if (!context_) throw Error("FLUX_OUT_OF_MEMORY", "no memory for the list of tensors");
}

Weights::~Weights() = default;

ggml_tensor * Weights::want(const std::string & name, std::vector<int64_t> shape, Role role) {
    const auto found = table_.find(name);
    if (found == table_.end()) throw Error("FLUX_BAD_FILE", "tensor " + name + " is missing");
    if (wanted_.size() == table_.size())
        throw Error("FLUX_BAD_FILE", "tensor " + name + " is asked for twice");  // the context has room for each once
    const TensorEntry & entry = found->second;
    if (entry.shape != shape)
        throw Error("FLUX_BAD_FILE",
                    "tensor " + name + " has the shape " + text(entry.shape) + ", " + text(shape) + " is needed");
    const bool plain = entry.type == GGML_TYPE_F32 || entry.type == GGML_TYPE_F16 || entry.type == GGML_TYPE_BF16;
    if (!plain && (!ggml_is_quantized(entry.type) || !ggml_get_type_traits(entry.type)->to_float)) {
        throw Error("FLUX_UNSUPPORTED", "tensor " + name + " cannot be of type " + ggml_type_name(entry.type));
    }
    ggml_tensor * tensor = ggml_new_tensor(context_.get(), role == Role::values ? GGML_TYPE_F32 : entry.type,
                                           static_cast<int>(shape.size()), shape.data());
    ggml_set_name(tensor, name.c_str());
    wanted_.push_back({tensor, &entry, role});
    return tensor;
}

Linear Weights::linear(const std::string & name, int64_t in, int64_t out, bool bias) {
    return {matrix(name + ".weight", in, out), bias ? want(name + ".bias", {out}, Role::values) : nullptr};
}

ggml_tensor * Weights::matrix(const std::string & name, int64_t in, int64_t out) {
    return want(name, {in, out}, Role::matrix);
}

ggml_tensor * Weights::find(const std::string & name) const {
    const auto found =
        std::find_if(wanted_.begin(), wanted_.end(), [&](const Wanted & wanted) { return wanted.entry->name == name; });
    return found == wanted_.end() ? nullptr : found->tensor;
}

Norm Weights::layer_norm(const std::string & name, int64_t n) {
    return {want(name + ".weight", {n}, Role::values), want(name + ".bias", {n}, Role::values)};
}

ggml_tensor * Weights::scale(const std::string & name, int64_t n) { return want(name, {n}, Role::values); }

ggml_tensor * Weights::table(const std::string & name, int64_t width, int64_t rows) {
    return want(name, {width, rows}, Role::rows);
}

ggml_tensor * Weights::values(const std::string & name, std::vector<int64_t> shape) {
    return want(name, std::move(shape), Role::values);
}

Conv Weights::conv(const std::string & name, int64_t kernel, int64_t in, int64_t out) {
    return {want(name + ".weight", {kernel, kernel, in, out}, Role::values), want(name + ".bias", {out}, Role::values)};
}

// ---- loading ----

namespace {

bool is_cpu(ggml_backend_dev_t device) { return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU; }

// Whether the device multiplies such a weight. `buffer`: where the weight seems to lie, if that matters.
bool multiplies(ggml_backend_dev_t device, const ggml_tensor * like, ggml_backend_buffer_t buffer = nullptr) {
    const ContextPtr ctx(ggml_init({ggml_tensor_overhead() * 4, nullptr, true}));
    if (!ctx) return false;
    ggml_tensor * weight = ggml_new_tensor_2d(ctx.get(), like->type, like->ne[0], like->ne[1]);
    weight->buffer = buffer;
    return ggml_backend_dev_supports_op(
        device, ggml_mul_mat(ctx.get(), weight, ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, weight->ne[0], 64)));
}

size_t padded(ggml_backend_buffer_type_t type, const ggml_tensor * tensor) {
    return GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensor), ggml_backend_buft_get_alignment(type));
}

// What a device of its own memory keeps free for activations.
constexpr size_t activations_reserve = size_t{3} << 29;

size_t room_on(ggml_backend_dev_t device) {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    if (total == 0) return SIZE_MAX;  // it does not say
    return free - std::min(free, activations_reserve);
}

}  // namespace

// Which tensors go to the device. Tables whose rows are looked up do not: that is little work, and not every device can, for every type. Matrices
// do in the network's order as long as there is room, less what all else needs. The others stay in the file's mapping: a GPU has them copied to it
// each time that they are multiplied with many columns, or the CPU multiplies, as ggml decides.
void Weights::share_out(ggml_backend_dev_t device, const Machine & machine) {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_buffer_type_t memory = ggml_backend_dev_buffer_type(device);
    size_t room = is_cpu(device) ? SIZE_MAX : std::min(machine.device_memory, room_on(device));
    for (Wanted & wanted : wanted_) {
        wanted.device = is_cpu(device) || wanted.role == Role::values ? device : cpu;
        if (wanted.device != cpu) room -= std::min(room, padded(memory, wanted.tensor));
    }
    if (is_cpu(device)) return;
    for (Wanted & wanted : wanted_) {
        if (wanted.role != Role::matrix || !multiplies(device, wanted.tensor)) continue;
        const size_t bytes = padded(memory, wanted.tensor);
        if (bytes > room) break;
        room -= bytes;
        wanted.device = device;
    }
}

// A quantised matrix that our own kernel does not suit, or multiplies no faster, goes into the first of the CPU's extra buffer types (AMX, repacking)
// that has a kernel for its type and shape. Returns null where the tensor is to be used as it lies in the file.
ggml_backend_buffer_type_t Weights::place(const Wanted & wanted, Precision precision) const {
    const bool widened = wanted.tensor->type != wanted.entry->type;
    if (!is_cpu(wanted.device) || widened) return ggml_backend_dev_buffer_type(wanted.device);
    const bool own = kernels::linear_beats_repacking() &&
                     kernels::linear_suits(wanted.tensor->type, wanted.tensor->ne[0], wanted.tensor->ne[1], true);
    if (wanted.role == Role::matrix && ggml_is_quantized(wanted.tensor->type) && !own && precision != Precision::f32) {
        const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(wanted.device), "ggml_backend_dev_get_extra_bufts"));
        for (ggml_backend_buffer_type_t * type = extra ? extra(wanted.device) : nullptr; type && *type; ++type) {
            const BufferPtr probe(ggml_backend_buft_alloc_buffer(*type, 0));
            if (probe && multiplies(wanted.device, wanted.tensor, probe.get())) return *type;
        }
    }
    // Pieces are put together, float8 becomes bfloat16. Scalars of a type must lie on its boundaries; files with odd offsets are copied.
    const TensorEntry & entry = *wanted.entry;
    const size_t element = ggml_is_quantized(wanted.tensor->type) ? 2 : ggml_type_size(wanted.tensor->type);
    const bool whole =
        entry.pieces.size() == 1 && entry.float8 == Float8::none && entry.pieces[0].offset % element == 0;
    return whole ? nullptr : ggml_backend_dev_buffer_type(wanted.device);
}

void Weights::pretend(ggml_backend_dev_t device, const Machine & machine) {
    share_out(device, machine);
    std::map<ggml_backend_buffer_type_t, ggml_backend_buffer_t> places;
    for (const Wanted & wanted : wanted_) {
        ggml_backend_buffer_type_t type = place(wanted, machine.precision);
        if (!type) type = ggml_backend_dev_buffer_type(wanted.device);
        if (!places.count(type)) {
            buffers_.emplace_back(ggml_backend_buft_alloc_buffer(type, 0));
            if (!buffers_.back()) throw Error("FLUX_OUT_OF_MEMORY", "no memory for an empty buffer");
            ggml_backend_buffer_set_usage(buffers_.back().get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            places[type] = buffers_.back().get();
        }
        wanted.tensor->buffer = places[type];
        wanted.tensor->data = reinterpret_cast<void *>(uintptr_t{4096});  // what has an address is not given one
    }
}

// `count` bytes of a tensor from its byte `first` on, which are whole blocks, and its numbers where `values` has room for them.
void Weights::read(const TensorEntry & entry, size_t first, size_t count, char * raw, float * values) const {
    const bool float8 = entry.float8 != Float8::none;
    size_t begin = 0;  // of a piece, in the tensor
    for (const Piece & piece : entry.pieces) {
        const size_t from = std::max(first, begin), to = std::min(first + count, begin + piece.bytes);
        if (from < to) {
            const File & file = files_[piece.file];
            file.read(piece.offset + (from - begin), raw + (from - first), to - from);
            if (values && float8) {
                float scale = 1;
                if (piece.scale != SIZE_MAX) file.read(piece.scale, reinterpret_cast<char *>(&scale), sizeof(scale));
                decode_float8(entry.float8, scale, reinterpret_cast<const uint8_t *>(raw + (from - first)), to - from,
                              values + (from - first));
            }
        }
        begin += piece.bytes;
    }
    if (!values || float8) return;
    const size_t elements = count / ggml_type_size(entry.type) * static_cast<size_t>(ggml_blck_size(entry.type));
    if (entry.type == GGML_TYPE_F32) std::memcpy(values, raw, elements * sizeof(float));
    else ggml_get_type_traits(entry.type)->to_float(raw, values, static_cast<int64_t>(elements));
}

// Some megabytes at a time: each thread has a scratch. Only tensors that are repacked are needed whole.
void Weights::fill(const Wanted & wanted, const std::atomic<bool> & cancel, std::vector<char> & scratch) const {
    const TensorEntry & entry = *wanted.entry;
    const bool float8 = entry.float8 != Float8::none, widen = float8 || wanted.tensor->type != entry.type;
    const bool round = float8 && wanted.tensor->type == GGML_TYPE_BF16;
    // of a block: its numbers, its bytes in the file, as F32, rounded again, and as they are stored
    const size_t numbers = float8 ? 1 : static_cast<size_t>(ggml_blck_size(entry.type)),
                 raw = float8 ? 1 : ggml_type_size(entry.type);
    const size_t wide = widen ? numbers * sizeof(float) : 0, narrow = round ? numbers * sizeof(ggml_bf16_t) : 0;
    const size_t stored = round ? narrow : widen ? wide : raw;
    const size_t blocks = checked_bytes(entry) / raw;
    const bool repacked =
        ggml_backend_buffer_get_type(wanted.tensor->buffer) != ggml_backend_dev_buffer_type(wanted.device);
    const size_t most = repacked ? blocks : std::min(blocks, max_scratch / (wide + narrow + raw));
    scratch.resize(most * (wide + narrow + raw));
    auto * values = reinterpret_cast<float *>(scratch.data());
    auto * rounded = reinterpret_cast<ggml_bf16_t *>(scratch.data() + most * wide);
    char * bytes = scratch.data() + most * (wide + narrow);
    for (size_t first = 0; first < blocks; first += most) {
        if (cancel) throw Aborted();
        const size_t count = std::min(most, blocks - first);
        read(entry, first * raw, count * raw, bytes, widen ? values : nullptr);
        if (round) ggml_fp32_to_bf16_row(values, rounded, static_cast<int64_t>(count * numbers));
        const void * data = round   ? static_cast<const void *>(rounded)
                            : widen ? static_cast<const void *>(values)
                                    : bytes;
        ggml_backend_tensor_set(wanted.tensor, data, first * stored, count * stored);
    }
}

void Weights::check_unchanged() const {
    for (const File & file : files_) {
        if (file.mapping && !file.unchanged()) {
            throw Error(
                "FLUX_BAD_FILE",
                file.path +
                    " was changed after it was loaded; load the model again. Replace a file in use by renaming the new "
                    "one over it, never by writing into it");
        }
    }
}

std::vector<uint8_t> Weights::convert(const std::vector<std::string> & files, const TensorEntry & entry, ggml_type type,
                                      const std::atomic<bool> & cancel, const std::function<void(float *)> & change) {
    const Weights weights(files, {entry});  // checks the places
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

void Weights::load(ggml_backend_dev_t device, const Machine & machine, Mapping mapping, size_t memory_limit,
                   const std::atomic<bool> & cancel, std::atomic<double> & progress) {
    share_out(device, machine);
    std::map<ggml_backend_buffer_type_t, std::vector<const Wanted *>> copies;
    std::vector<std::vector<const Wanted *>> mapped(files_.size());
    for (const Wanted & wanted : wanted_) {
        ggml_backend_buffer_type_t type = place(wanted, machine.precision);
        if (!type && mapping == Mapping::never) type = ggml_backend_dev_buffer_type(wanted.device);
        if (type) copies[type].push_back(&wanted);
        else mapped[wanted.entry->pieces[0].file].push_back(&wanted);
    }

    size_t here = 0;  // of the copies in this machine's memory
    for (const auto & [type, list] : copies) {
        for (const Wanted * wanted : list) {
            copied_ += padded(type, wanted->tensor);
            if (is_cpu(wanted->device)) here += padded(type, wanted->tensor);
        }
    }
    if (here > memory_limit) {
        throw Error("FLUX_OUT_OF_MEMORY", "the weights need " + std::to_string(here >> 20) + " MiB and " +
                                              std::to_string(memory_limit >> 20) +
                                              " MiB are free; use a smaller quantisation, or free memory");
    }

    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    for (size_t i = 0; i < files_.size(); i++) {
        if (mapped[i].empty()) continue;
        char * base = files_[i].map();
        BufferPtr buffer(ggml_backend_dev_buffer_from_host_ptr(cpu, base, files_[i].size, files_[i].size));
        if (!buffer) throw Error("FLUX_DEVICE", "the CPU cannot use the mapped file " + files_[i].path);
        ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        for (const Wanted * wanted : mapped[i]) {
            ggml_backend_tensor_alloc(buffer.get(), wanted->tensor, base + wanted->entry->pieces[0].offset);
            mapped_ += ggml_nbytes(wanted->tensor);
        }
        buffers_.push_back(std::move(buffer));
    }

    std::vector<const Wanted *> jobs;
    for (const auto & [type, list] : copies) {
        size_t size = 0;
        for (const Wanted * wanted : list) size += padded(type, wanted->tensor);
        BufferPtr buffer(ggml_backend_buft_alloc_buffer(type, size));
        if (!buffer)
            throw Error("FLUX_OUT_OF_MEMORY", "no memory for " + std::to_string(size >> 20) +
                                                  " MiB of weights; use a smaller quantisation, or free memory");
        ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        char * address = static_cast<char *>(ggml_backend_buffer_get_base(buffer.get()));
        if (is_cpu(list.front()->device)) use_huge_pages(address, size);
        for (const Wanted * wanted : list) {
            if (ggml_backend_tensor_alloc(buffer.get(), wanted->tensor, address) != GGML_STATUS_SUCCESS) {
                throw Error("FLUX_DEVICE", "the device refuses the tensor " + wanted->entry->name);
            }
            address += padded(type, wanted->tensor);
            jobs.push_back(wanted);
        }
        buffers_.push_back(std::move(buffer));
    }

    // Reading and repacking, several tensors at a time on a CPU; in the order of the file, for the disk's sake.
    std::sort(jobs.begin(), jobs.end(), [](const Wanted * a, const Wanted * b) {
        const Piece &first = a->entry->pieces[0], &second = b->entry->pieces[0];
        return std::pair(first.file, first.offset) < std::pair(second.file, second.offset);
    });
    std::atomic<size_t> next{0}, done{0};
    std::mutex mutex;
    std::exception_ptr failure;
    in_parallel(is_cpu(device) ? machine.threads : 1, [&](int) {
        try {
            std::vector<char> scratch;
            for (size_t i; (i = next++) < jobs.size();) {
                fill(*jobs[i], cancel, scratch);
                progress = static_cast<double>(done += ggml_nbytes(jobs[i]->tensor)) / static_cast<double>(copied_);
            }
        } catch (...) {
            next = jobs.size();
            std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    });
    if (failure) std::rethrow_exception(failure);
    for (File & file : files_) {
        if (!file.mapping) file.close();
    }
    progress = 1;
}

}  // namespace ggflux
