// The weights of a network. They are read from a table of tensors in files into tensors in device buffers.
#pragma once

#include "float8.hpp"
#include "system/mapped-file.hpp"
#include "runtime/devices.hpp"

#include <ggml-cpp.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ggflux {

// Rows of a tensor that are contiguous in a file.
struct Piece {
    size_t file, offset, bytes;
    size_t scale = SIZE_MAX;  // offset of the F32 that float8 numbers are multiplied by, if any
};

// A tensor of a model file, as TypeScript read it from the file's header.
struct TensorEntry {
    std::string name;
    ggml_type type;
    std::vector<int64_t> shape;  // in ggml's order: fastest dimension first
    Float8 float8;               // if not none, the type of the bytes in the file, which are converted to `type`
    std::vector<Piece> pieces;   // in the order of the rows
};

// The bytes that a tensor takes in its files. Throws Error for input that would make ggml abort. TypeScript has already
// checked it, with better messages.
size_t checked_bytes(const TensorEntry & entry);

struct Linear {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};  // weight [in, out]
struct Norm {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};
struct Conv {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};  // weight [kw, kh, in, out]

// Used in two steps. A network's constructor declares its tensors, each with its role and the shape that it must have.
// Then `load` decides where each tensor goes on this device, and fills it.
class Weights {
  public:
    Weights(const std::vector<std::string> & files, std::vector<TensorEntry> table);

    Linear linear(const std::string & name, int64_t in, int64_t out, bool bias = true);
    Norm layer_norm(const std::string & name, int64_t n);
    Conv conv(const std::string & name, int64_t kernel, int64_t in, int64_t out);
    ggml_tensor * scale(const std::string & name, int64_t n);                    // of an RMS norm
    ggml_tensor * matrix(const std::string & name, int64_t in, int64_t out);     // for products, any type
    ggml_tensor * table(const std::string & name, int64_t width, int64_t rows);  // for row lookups, any type
    ggml_tensor * f32_tensor(const std::string & name,
                             std::vector<int64_t> shape);  // converted to F32 if the file has another type
    ggml_tensor * find(const std::string & name) const;    // a declared tensor, or null

    // allowed: tensors that can be used directly from the file are mapped. never: all tensors are copied, and the files
    // may change afterwards.
    enum class Mapping { allowed, never };

    // `memory_limit`: bytes that copies in this machine's memory (repacked, or converted to F32) may take.
    void load(ggml_backend_dev_t device, const Machine & machine, Mapping mapping, size_t memory_limit,
              const std::atomic<bool> & cancel, std::atomic<double> & progress);

    // Replaces loading: places the tensors as `load` would, but without memory. Their graphs can be measured but not
    // evaluated.
    void dry_load(ggml_backend_dev_t device, const Machine & machine);

    // Throws Error FLUX_BAD_FILE if a mapped file was changed since it was loaded. Reading after the end of a file that
    // became shorter would kill the process.
    void check_unchanged() const;

    // The bytes of a tensor in another type, without loading it. `change` can modify the numbers first.
    static std::vector<uint8_t> convert(const std::vector<std::string> & files, const TensorEntry & entry,
                                        ggml_type type, const std::atomic<bool> & cancel,
                                        const std::function<void(float *)> & change = {});

    size_t copied_bytes() const { return copied_; }
    size_t mapped_bytes() const { return mapped_; }

  private:
    enum class Role { matrix, rows, f32 };
    struct Declared {
        ggml_tensor * tensor;
        const TensorEntry * entry;
        Role role;
        ggml_backend_dev_t device = nullptr;
    };
    using Group = std::vector<const Declared *>;
    using Copies = std::map<ggml_backend_buffer_type_t, Group>;

    ggml_tensor * declare(const std::string & name, std::vector<int64_t> shape, Role role);

    // placement.cpp
    static size_t padded_bytes(ggml_backend_buffer_type_t type, const ggml_tensor * tensor);
    void assign_devices(ggml_backend_dev_t device, const Machine & machine);
    ggml_backend_buffer_type_t buffer_for(const Declared & declared, Precision precision) const;

    // load.cpp
    void count_copies(const Copies & copies, size_t memory_limit);
    void map_file(MappedFile & file, const Group & group);
    void allocate(const Copies & copies);
    void allocate(ggml_backend_buffer_type_t type, const Group & group, size_t size);
    void fill_copies(Group tensors, int threads, const std::atomic<bool> & cancel,
                     std::atomic<double> & progress) const;
    void fill(const Declared & declared, const std::atomic<bool> & cancel, std::vector<char> & scratch) const;
    void read(const TensorEntry & entry, size_t first, size_t count, char * raw, float * values) const;

    std::map<std::string, TensorEntry> table_;
    std::vector<Declared> declared_;
    std::vector<MappedFile> files_;
    ggml_context_ptr context_;
    std::vector<ggml_backend_buffer_ptr> buffers_;  // freed before the files are unmapped
    size_t copied_ = 0, mapped_ = 0;
};

}  // namespace ggflux
