#include "devices.hpp"
#include "error.hpp"

#include <ggml-rpc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace ggflux {

namespace {

thread_local std::string last_complaint;  // each task has its own thread

void on_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_ERROR) return;
    last_complaint = text;
    while (!last_complaint.empty() && last_complaint.back() == '\n') last_complaint.pop_back();
}

template <class Function> Function rpc_procedure(const char * name) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    if (!rpc) throw Error("FLUX_DEVICE", "the file libggml-rpc* is missing next to the addon; reinstall ggflux");
    return procedure<Function>(rpc, name);
}

std::atomic<int> exit_status{0};

std::mutex registry;  // ggml's list of modules and devices, which has no lock of its own

constexpr const char * rpc_scheme = "rpc://";

ggml_backend_dev_t local_device(const std::string & name) {
    ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
    if (!device) throw Error("FLUX_DEVICE", "there is no device named " + name + "; devices() lists them");
    return device;
}

}  // namespace

std::string complaint() {
    std::string text = last_complaint.empty() ? "" : " (ggml: " + last_complaint + ")";
    last_complaint.clear();
    return text;
}

bool is_rpc(const std::string & device) { return device.compare(0, std::strlen(rpc_scheme), rpc_scheme) == 0; }

bool is_gpu(const std::string & device) {
    if (is_rpc(device)) return false;
    ggml_backend_dev_t found = ggml_backend_dev_by_name(device.c_str());
    return found && !is_cpu(found);
}

void leave_without_destructors() {
    // Handlers run in the reverse order of their registration, so this one runs before the destructors of a module that
    // was loaded earlier.
    static const int registered = std::atexit([] {
        std::fflush(nullptr);
        std::_Exit(exit_status);
    });
    static_cast<void>(registered);
}

void set_exit_status(int status) { exit_status = status; }

bool is_cpu(ggml_backend_dev_t device) { return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU; }

ggml_backend_dev_t cpu_device() {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!device)
        throw Error("FLUX_DEVICE",
                    "no CPU backend was loaded: the file libggml-cpu* is missing next to the addon; reinstall ggflux");
    return device;
}

ggml_backend_dev_t find_device(const std::string & name) {
    if (!is_rpc(name)) return local_device(name);
    const size_t begin = std::strlen(rpc_scheme), slash = name.find('/', begin);
    const std::string endpoint = name.substr(begin, slash - begin);
    const unsigned long index = slash == std::string::npos ? 0 : std::strtoul(name.c_str() + slash + 1, nullptr, 10);
    ggml_backend_reg_t server =
        rpc_procedure<decltype(&ggml_backend_rpc_add_server)>("ggml_backend_rpc_add_server")(endpoint.c_str());
    const size_t count = server ? ggml_backend_reg_dev_count(server) : 0;
    if (index >= count)
        throw Error("FLUX_DEVICE", name + ": the RPC server has " + std::to_string(count) + " devices, counted from 0");
    return ggml_backend_reg_dev_get(server, index);
}

void load_backends(const std::string & directory) {
    static std::once_flag once;
    std::call_once(once, [&] {
        ggml_log_set(on_log, nullptr);
        ggml_backend_load_all_from_path(directory.c_str());
    });
}

std::string load_module(const std::string & file) {
    static std::vector<std::string> loaded;
    const std::lock_guard<std::mutex> lock(registry);
    if (std::find(loaded.begin(), loaded.end(), file) != loaded.end()) return "";
    last_complaint.clear();
    if (!ggml_backend_load(file.c_str())) return last_complaint.empty() ? "it has no device" : last_complaint;
    loaded.push_back(file);
    return "";
}

std::vector<DeviceInfo> list_devices() {
    const std::lock_guard<std::mutex> lock(registry);
    std::vector<DeviceInfo> devices;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_props props{};
        ggml_backend_dev_get_props(ggml_backend_dev_get(i), &props);
        const bool integrated = props.type == GGML_BACKEND_DEVICE_TYPE_IGPU;
        const bool gpu = props.type == GGML_BACKEND_DEVICE_TYPE_GPU || integrated;
        const bool cpu = props.type == GGML_BACKEND_DEVICE_TYPE_CPU;
        devices.push_back({props.name ? props.name : "", props.description ? props.description : "",
                           gpu   ? "gpu"
                           : cpu ? "cpu"
                                 : "accelerator",
                           ggml_backend_reg_name(ggml_backend_dev_backend_reg(ggml_backend_dev_get(i))), integrated,
                           props.memory_total, props.memory_free});
    }
    return devices;
}

void serve_rpc(const std::string & endpoint, const std::string & device, int threads) {
    ggml_backend_dev_t served = local_device(device);
    const auto serve = rpc_procedure<decltype(&ggml_backend_rpc_start_server)>("ggml_backend_rpc_start_server");
    serve(endpoint.c_str(), nullptr, static_cast<size_t>(std::max(1, threads)), 1, &served);
    throw Error("FLUX_DEVICE", "nobody can be served at " + endpoint +
                                   ": another program may use the port; choose another" + complaint());
}

}  // namespace ggflux
