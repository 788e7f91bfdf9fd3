#include "weights.hpp"
#include "runtime/error.hpp"
#include "runtime/in-parallel.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace ggflux {

namespace { constexpr size_t max_scratch = size_t{1} << 24; }

// Reads `count` bytes of a tensor, starting at byte `first`, into `raw`. They must be whole blocks. If `values` is not
// null, writes their numbers into it.
void Weights::read(const TensorEntry & entry, size_t first, size_t count, char * raw, float * values) const {
    const bool float8 = entry.float8 != Float8::none;
    size_t begin = 0;  // of the piece, in the tensor
    for (const Piece & piece : entry.pieces) {
        const size_t from = std::max(first, begin), to = std::min(first + count, begin + piece.bytes);
        if (from < to) {
            const MappedFile & file = files_[piece.file];
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

// Works on some megabytes at a time. Only repacked tensors need all their data at once.
void Weights::fill(const Declared & declared, const std::atomic<bool> & cancel, std::vector<char> & scratch) const {
    const TensorEntry & entry = *declared.entry;
    const bool float8 = entry.float8 != Float8::none, widen = float8 || declared.tensor->type != entry.type;
    const bool round = float8 && declared.tensor->type == GGML_TYPE_BF16;
    // A block has `numbers` numbers. It takes `raw` bytes in the file, `wide` as F32, `narrow` as BF16, and `stored` in
    // the tensor.
    const size_t numbers = float8 ? 1 : static_cast<size_t>(ggml_blck_size(entry.type)),
                 raw = float8 ? 1 : ggml_type_size(entry.type);
    const size_t wide = widen ? numbers * sizeof(float) : 0, narrow = round ? numbers * sizeof(ggml_bf16_t) : 0;
    const size_t stored = round ? narrow : widen ? wide : raw;
    const size_t blocks = checked_bytes(entry) / raw;
    const bool repacked =
        ggml_backend_buffer_get_type(declared.tensor->buffer) != ggml_backend_dev_buffer_type(declared.device);
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
        ggml_backend_tensor_set(declared.tensor, data, first * stored, count * stored);
    }
}

void Weights::check_unchanged() const {
    for (const MappedFile & file : files_) {
        if (file.mapped() && !file.unchanged()) {
            throw Error(
                "FLUX_BAD_FILE",
                file.path() +
                    " was changed after it was loaded; load the model again. Replace a file in use by renaming the new "
                    "one over it, never by writing into it");
        }
    }
}

void Weights::count_copies(const Copies & copies, size_t memory_limit) {
    size_t here = 0;  // in this machine's memory
    for (const auto & [type, group] : copies) {
        for (const Declared * declared : group) {
            copied_ += padded_bytes(type, declared->tensor);
            if (is_cpu(declared->device)) here += padded_bytes(type, declared->tensor);
        }
    }
    if (here > memory_limit) {
        throw Error("FLUX_OUT_OF_MEMORY", "the weights need " + std::to_string(here >> 20) + " MiB and " +
                                              std::to_string(memory_limit >> 20) +
                                              " MiB are free; use a smaller quantisation, or free memory");
    }
}

void Weights::map_file(MappedFile & file, const Group & group) {
    char * base = file.map();
    ggml_backend_buffer_ptr buffer(ggml_backend_dev_buffer_from_host_ptr(cpu_device(), base, file.size(), file.size()));
    if (!buffer) throw Error("FLUX_DEVICE", "the CPU cannot use the mapped file " + file.path());
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    for (const Declared * declared : group) {
        ggml_backend_tensor_alloc(buffer.get(), declared->tensor, base + declared->entry->pieces[0].offset);
        mapped_ += ggml_nbytes(declared->tensor);
    }
    buffers_.push_back(std::move(buffer));
}

void Weights::allocate(const Copies & copies) {
    for (const auto & [type, all] : copies) {
        // Vulkan and Metal limit the size of a buffer, often to 4 GiB.
        const size_t limit = ggml_backend_buft_get_max_size(type);
        Group group;
        size_t size = 0;
        for (const Declared * declared : all) {
            const size_t bytes = padded_bytes(type, declared->tensor);
            if (!group.empty() && size + bytes > limit) {
                allocate(type, group, size);
                group.clear();
                size = 0;
            }
            group.push_back(declared);
            size += bytes;
        }
        allocate(type, group, size);
    }
}

void Weights::allocate(ggml_backend_buffer_type_t type, const Group & group, size_t size) {
    ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, size));
    if (!buffer)
        throw Error("FLUX_OUT_OF_MEMORY", "no memory for " + std::to_string(size >> 20) +
                                              " MiB of weights; use a smaller quantisation, or free memory");
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    char * address = static_cast<char *>(ggml_backend_buffer_get_base(buffer.get()));
    if (is_cpu(group.front()->device)) use_huge_pages(address, size);
    for (const Declared * declared : group) {
        if (ggml_backend_tensor_alloc(buffer.get(), declared->tensor, address) != GGML_STATUS_SUCCESS)
            throw Error("FLUX_DEVICE", "the device refuses the tensor " + declared->entry->name);
        address += padded_bytes(type, declared->tensor);
    }
    buffers_.push_back(std::move(buffer));
}

// Fills several tensors at a time, in the order of the file, because that is the fastest way to read it.
void Weights::fill_copies(Group tensors, int threads, const std::atomic<bool> & cancel,
                          std::atomic<double> & progress) const {
    std::sort(tensors.begin(), tensors.end(), [](const Declared * a, const Declared * b) {
        const Piece &first = a->entry->pieces[0], &second = b->entry->pieces[0];
        return std::pair(first.file, first.offset) < std::pair(second.file, second.offset);
    });
    std::atomic<size_t> next{0}, done{0};
    std::mutex mutex;
    std::exception_ptr failure;
    in_parallel(threads, [&](int) {
        try {
            std::vector<char> scratch;
            for (size_t i; (i = next++) < tensors.size();) {
                fill(*tensors[i], cancel, scratch);
                progress = static_cast<double>(done += ggml_nbytes(tensors[i]->tensor)) / static_cast<double>(copied_);
            }
        } catch (...) {
            next = tensors.size();
            std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    });
    if (failure) std::rethrow_exception(failure);
}

void Weights::load(ggml_backend_dev_t device, const Machine & machine, Mapping mapping, size_t memory_limit,
                   const std::atomic<bool> & cancel, std::atomic<double> & progress) {
    assign_devices(device, machine);
    Copies copies;
    Group copied;
    std::map<size_t, Group> mapped;  // by file
    for (const Declared & declared : declared_) {
        ggml_backend_buffer_type_t type = buffer_for(declared, machine.precision);
        if (!type && mapping == Mapping::never) type = ggml_backend_dev_buffer_type(declared.device);
        (type ? copies[type] : mapped[declared.entry->pieces[0].file]).push_back(&declared);
        if (type) copied.push_back(&declared);
    }
    count_copies(copies, memory_limit);
    for (const auto & [file, group] : mapped) map_file(files_[file], group);
    allocate(copies);
    fill_copies(std::move(copied), is_cpu(device) ? machine.threads : 1, cancel, progress);
    for (MappedFile & file : files_) {
        if (!file.mapped()) file.close();
    }
    progress = 1;
}

}  // namespace ggflux
