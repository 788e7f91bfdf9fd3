// The devices that ggml computes on: those of this machine and those of RPC servers.
#pragma once

#include <ggml-backend.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ggflux {

struct DeviceInfo {
    std::string name, description, kind;  // kind: cpu, gpu, accelerator
    std::string backend;                  // ggml's name: CPU, CUDA, Vulkan, MTL
    bool integrated = false;              // a GPU that shares the machine's memory
    size_t memory_total = 0, memory_free = 0;
};

// How activations may be rounded. f32: not rounded, for all types of weights. automatic: rounded to bfloat16 or 8 bits,
// except with F32 and F16 weights. bf16: rounded to bfloat16 with all weights, and F32 and F16 weights are rounded too.
enum class Precision { automatic, f32, bf16 };

// The device and settings that a network is computed with. device: a name from list_devices(), or rpc://host:port. A
// suffix /n selects the server's n-th device.
struct Machine {
    std::string device;
    int threads;
    Precision precision;
    size_t device_memory = SIZE_MAX;  // bytes that the weights of a network may use on a device with its own memory
};

void load_backends(const std::string & directory);
std::string load_module(const std::string & file);  // returns why the system or ggml refuses it, or an empty text
std::vector<DeviceInfo> list_devices();

// Computes on `device` for clients that connect to host:port, one client at a time, until the process ends. Throws
// Error if it cannot listen.
void serve_rpc(const std::string & endpoint, const std::string & device, int threads);

// Both throw Error if the device does not exist.
ggml_backend_dev_t find_device(const std::string & name);
ggml_backend_dev_t cpu_device();

bool is_rpc(const std::string & device);
bool is_cpu(ggml_backend_dev_t device);
bool is_gpu(const std::string & device);  // of this machine

// After a device has failed: its module's destructors would end the process with an abort. From now on the process ends
// without destructors, with the status that set_exit_status() was given last.
void leave_without_destructors();
void set_exit_status(int status);

// ggml's last error message on this thread, to append to our message. The next call returns an empty string.
std::string complaint();

// A function that only some backends have, or null.
template <class Function> Function procedure(ggml_backend_reg_t backend, const char * name) {
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(backend, name));
}

}  // namespace ggflux
