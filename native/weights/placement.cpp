#include "weights.hpp"
#include "kernels/linear.hpp"
#include "runtime/error.hpp"

#include <algorithm>

namespace ggflux {

namespace {

// Whether the device can multiply weights of this type and shape. `buffer`: the buffer of the trial weight, if that
// matters.
bool multiplies(ggml_backend_dev_t device, const ggml_tensor * like, ggml_backend_buffer_t buffer = nullptr) {
    const ggml_context_ptr ctx(ggml_init({ggml_tensor_overhead() * 4, nullptr, true}));
    if (!ctx) return false;
    ggml_tensor * weight = ggml_new_tensor_2d(ctx.get(), like->type, like->ne[0], like->ne[1]);
    weight->buffer = buffer;
    return ggml_backend_dev_supports_op(
        device, ggml_mul_mat(ctx.get(), weight, ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, weight->ne[0], 64)));
}

// The memory that is kept free for activations on a device with its own memory.
constexpr size_t activations_reserve = size_t{3} << 29;

size_t room_on(ggml_backend_dev_t device) {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    if (total == 0) return SIZE_MAX;  // unknown
    return free - std::min(free, activations_reserve);
}

}  // namespace

size_t Weights::padded_bytes(ggml_backend_buffer_type_t type, const ggml_tensor * tensor) {
    return GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensor), ggml_backend_buft_get_alignment(type));
}

// Decides which tensors go to the device. F32 tensors do. Matrices do in the network's order, as long as there is
// space. Lookup tables do not: a lookup is little work, and some devices cannot do it for some types. Tensors that stay
// on the CPU stay in the mapped file. ggml's scheduler copies such a matrix to a GPU each time it is multiplied by many
// columns, or the CPU multiplies it.
void Weights::assign_devices(ggml_backend_dev_t device, const Machine & machine) {
    ggml_backend_dev_t cpu = cpu_device();
    ggml_backend_buffer_type_t memory = ggml_backend_dev_buffer_type(device);
    size_t room = is_cpu(device) ? SIZE_MAX : std::min(machine.device_memory, room_on(device));
    for (Declared & declared : declared_) {
        declared.device = is_cpu(device) || declared.role == Role::f32 ? device : cpu;
        if (declared.device != cpu) room -= std::min(room, padded_bytes(memory, declared.tensor));
    }
    if (is_cpu(device)) return;
    for (Declared & declared : declared_) {
        if (declared.role != Role::matrix || !multiplies(device, declared.tensor)) continue;
        const size_t bytes = padded_bytes(memory, declared.tensor);
        if (bytes > room) break;
        room -= bytes;
        declared.device = device;
    }
}

// Null if the tensor can be used from the mapped file. A quantised matrix goes into the first of the CPU's extra buffer
// types (AMX, repacking) that has a kernel for its type and shape, unless our own kernel supports it and is as fast.
ggml_backend_buffer_type_t Weights::buffer_for(const Declared & declared, Precision precision) const {
    const ggml_tensor * tensor = declared.tensor;
    const TensorEntry & entry = *declared.entry;
    ggml_backend_buffer_type_t plain = ggml_backend_dev_buffer_type(declared.device);
    const bool widened = tensor->type != entry.type;
    if (!is_cpu(declared.device) || widened) return plain;
    const bool own =
        kernels::linear_beats_repacking() && kernels::linear_suits(tensor->type, tensor->ne[0], tensor->ne[1], true);
    if (declared.role == Role::matrix && ggml_is_quantized(tensor->type) && !own && precision != Precision::f32) {
        const auto extra = procedure<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_dev_backend_reg(declared.device),
                                                                         "ggml_backend_dev_get_extra_bufts");
        for (ggml_backend_buffer_type_t * type = extra ? extra(declared.device) : nullptr; type && *type; ++type) {
            const ggml_backend_buffer_ptr probe(ggml_backend_buft_alloc_buffer(*type, 0));
            if (probe && multiplies(declared.device, tensor, probe.get())) return *type;
        }
    }
    // These tensors are copied: tensors with several pieces, float8 (which becomes bfloat16), and tensors whose offset
    // in the file is not a multiple of the size of their scalars.
    const size_t scalar = ggml_is_quantized(tensor->type) ? 2 : ggml_type_size(tensor->type);
    const bool whole = entry.pieces.size() == 1 && entry.float8 == Float8::none && entry.pieces[0].offset % scalar == 0;
    return whole ? nullptr : plain;
}

void Weights::dry_load(ggml_backend_dev_t device, const Machine & machine) {
    assign_devices(device, machine);
    std::map<ggml_backend_buffer_type_t, ggml_backend_buffer_t> empty;
    for (const Declared & declared : declared_) {
        ggml_backend_buffer_type_t type = buffer_for(declared, machine.precision);
        if (!type) type = ggml_backend_dev_buffer_type(declared.device);
        if (!empty.count(type)) {
            buffers_.emplace_back(ggml_backend_buft_alloc_buffer(type, 0));
            if (!buffers_.back()) throw Error("FLUX_OUT_OF_MEMORY", "no memory for an empty buffer");
            ggml_backend_buffer_set_usage(buffers_.back().get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            empty[type] = buffers_.back().get();
        }
        declared.tensor->buffer = empty[type];
        // This address is never read. ggml's allocator would allocate a tensor that has no address.
        declared.tensor->data = reinterpret_cast<void *>(uintptr_t{4096});
    }
}

}  // namespace ggflux
