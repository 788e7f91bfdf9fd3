// From a table of tensors in files to tensors in the backend's buffers.
#pragma once

#include "runtime/graph.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace ggflux {

// How the bytes in the file stand for numbers, where not as the tensor's ggml type says.
enum class Float8 { none, e4m3fn, e5m2 };

// Rows of a tensor that lie together in a file.
struct Piece {
    size_t file, offset, bytes;
    size_t scale = SIZE_MAX;  // where in the file the F32 lies that they are multiplied with, if anywhere; float8 only
};

// One row of the table that TypeScript made from the file's header. Shapes in ggml's order, fastest dimension first. The pieces follow one another.
struct TensorEntry {
    std::string name;
    ggml_type type;
    std::vector<int64_t> shape;
    Float8 float8;
    std::vector<Piece> pieces;
};

struct Linear {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};  // weight [in, out]
struct Norm {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};
struct Conv {
    ggml_tensor *weight = nullptr, *bias = nullptr;
};  // weight [kw, kh, in, out]

// Used in two steps: a network's constructor asks for its tensors, each in its role and with the shape that it must have; `load` then
// decides where each role lives on this device, and fills it.
class Weights {
  public:
    Weights(std::vector<std::string> files, std::vector<TensorEntry> table);
    ~Weights();

    Linear linear(const std::string & name, int64_t in, int64_t out, bool bias = true);
    Norm layer_norm(const std::string & name, int64_t n);
    ggml_tensor * scale(const std::string & name, int64_t n);                    // of an RMS norm; F32 in memory
    ggml_tensor * table(const std::string & name, int64_t width, int64_t rows);  // looked up by rows, any type
    ggml_tensor * values(const std::string & name, std::vector<int64_t> shape);  // F32 in memory
    Conv conv(const std::string & name, int64_t kernel, int64_t in, int64_t out);
    ggml_tensor * matrix(const std::string & name, int64_t in, int64_t out);  // of a product
    bool has(const std::string & name) const { return table_.count(name) > 0; }
    ggml_tensor * find(const std::string & name) const;  // that was asked for before, or null

    // allowed: tensors that can be used as they are in the file are mapped. never: all are copied, and the files may change afterwards.
    enum class Mapping { allowed, never };

    // `memory_limit`: bytes that copies in this machine's memory (repacked, widened to F32) may take.
    void load(ggml_backend_dev_t device, const Machine & machine, Mapping mapping, size_t memory_limit,
              const std::atomic<bool> & cancel, std::atomic<double> & progress);

    // Throws Error FLUX_BAD_FILE when a mapped file is not as it was loaded: reading past its new end would kill the process.
    void check_unchanged() const;

    // Instead of loading: the tensors seem to lie where `load` would place them, so that graphs can be measured, not evaluated.
    void pretend(ggml_backend_dev_t device, const Machine & machine);

    // A tensor's numbers in another type, without the tensor that `load` would make. `change` may alter them before.
    static std::vector<uint8_t> convert(const std::vector<std::string> & files, const TensorEntry & entry,
                                        ggml_type type, const std::atomic<bool> & cancel,
                                        const std::function<void(float *)> & change = {});

    size_t copied_bytes() const { return copied_; }
    size_t mapped_bytes() const { return mapped_; }

  private:
    enum class Role { matrix, rows, values };
    struct Wanted {
        ggml_tensor * tensor;
        const TensorEntry * entry;
        Role role;
        ggml_backend_dev_t device = nullptr;
    };
    struct File;

    ggml_tensor * want(const std::string & name, std::vector<int64_t> shape, Role role);
    void share_out(ggml_backend_dev_t device, const Machine & machine);
    ggml_backend_buffer_type_t place(const Wanted & wanted, Precision precision) const;
    void read(const TensorEntry & entry, size_t first, size_t count, char * raw, float * values) const;
    void fill(const Wanted & wanted, const std::atomic<bool> & cancel, std::vector<char> & scratch) const;

    std::map<std::string, TensorEntry> table_;
    std::vector<Wanted> wanted_;
    std::vector<File> files_;
    ContextPtr context_;
    std::vector<BufferPtr> buffers_;  // freed before the files are unmapped
    size_t copied_ = 0, mapped_ = 0;
};

}  // namespace ggflux
