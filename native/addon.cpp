// The addon's exports. lib/native/addon.ts describes the arguments and results of each function.
#include "system/file-lock.hpp"
#include "node/marshalling.hpp"
#include "node/network-handle.hpp"
#include "kernels/peak.hpp"
#include "runtime/drivers.hpp"
#include "runtime/trial.hpp"

#include <cmath>

namespace ggflux {

namespace {

template <Napi::Value (*Function)(const Napi::CallbackInfo &)> Napi::Value guarded(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] { return Function(info); });
}

Napi::Value load_backends(const Napi::CallbackInfo & info) {
    ggflux::load_backends(info[0].ToString());
    return info.Env().Undefined();
}

// loadModule(file)
Napi::Value load_module(const Napi::CallbackInfo & info) {
    return Napi::String::New(info.Env(), ggflux::load_module(info[0].ToString()));
}

Napi::Value devices(const Napi::CallbackInfo & info) {
    const auto list = Napi::Array::New(info.Env());
    for (const DeviceInfo & device : list_devices()) {
        const auto item = Napi::Object::New(info.Env());
        item.Set("name", device.name);
        item.Set("description", device.description);
        item.Set("kind", device.kind);
        item.Set("backend", device.backend);
        item.Set("integrated", device.integrated);
        item.Set("memoryTotal", static_cast<double>(device.memory_total));
        item.Set("memoryFree", static_cast<double>(device.memory_free));
        list.Set(list.Length(), item);
    }
    return list;
}

Napi::Value driver_libraries(const Napi::CallbackInfo & info) {
    const DriverLibraries found = find_driver_libraries();
    const auto item = Napi::Object::New(info.Env());
    item.Set("vulkan", found.vulkan);
    item.Set("cuda", found.cuda);
    return item;
}

// tryDevice(name): never returns if the driver never does
Napi::Value try_device(const Napi::CallbackInfo & info) {
    return Napi::String::New(info.Env(), ggflux::try_device(info[0].ToString()));
}

Napi::Value drivers(const Napi::CallbackInfo & info) {
    const Drivers found = find_drivers();
    const auto devices = Napi::Array::New(info.Env());
    for (const VulkanDevice & device : found.vulkan_devices) {
        const auto item = Napi::Object::New(info.Env());
        item.Set("name", device.name);
        item.Set("kind", device.kind);
        item.Set("driver", device.driver);
        item.Set("halfStorage", device.half_storage);
        devices.Set(devices.Length(), item);
    }
    const auto drivers = Napi::Object::New(info.Env());
    if (found.vulkan) drivers.Set("vulkan", devices);
    if (found.cuda) {
        const auto cuda = Napi::Object::New(info.Env());
        cuda.Set("version", found.cuda_version);
        cuda.Set("driver", found.cuda_driver);
        drivers.Set("cuda", cuda);
    }
    return drivers;
}

// serveRpc(endpoint, device, threads): never returns
Napi::Value serve_rpc(const Napi::CallbackInfo & info) {
    ggflux::serve_rpc(info[0].ToString(), info[1].ToString(), read_threads(info[2]));
    return info.Env().Undefined();
}

// A type that numbers can be stored as.
ggml_type written_type(const Napi::Value & value) {
    const int32_t number = value.ToNumber().Int32Value();
    const auto type = static_cast<ggml_type>(number >= 0 && number < GGML_TYPE_COUNT ? number : GGML_TYPE_COUNT);
    if (type == GGML_TYPE_COUNT || ggml_blck_size(type) <= 0 || ggml_quantize_requires_imatrix(type) ||
        !(ggml_is_quantized(type) || type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16)) {
        throw Error("FLUX_UNSUPPORTED", "numbers cannot be written in the type " + std::to_string(number));
    }
    return type;
}

// convert(files, tensor, type, { files, tensors, adapters, first }?)
Napi::Value convert(const Napi::CallbackInfo & info) {
    const auto files = read_texts(info[0]);
    const TensorEntry entry = read_tensor(info[1]);
    const ggml_type type = written_type(info[2]);
    const auto cancel = std::make_shared<std::atomic<bool>>(false);
    std::function<void(float *)> change;
    if (info[3].IsObject()) {
        const auto merged = info[3].As<Napi::Object>();
        const int64_t first = merged.Get("first").ToNumber().Int64Value();
        if (entry.shape.size() != 2 || first < 0)
            throw Error("FLUX_BAD_SHAPE", "only rows of matrices can have something merged into them");
        change = [cancel, first, entry, from = read_texts(merged.Get("files")),
                  tensors = read_table(merged.Get("tensors")),
                  adapters = read_adapters(merged.Get("adapters"))](float * values) {
            for (const AdapterSpec & adapter : adapters)
                merge(adapter, from, tensors, first, entry.shape[1], entry.shape[0], values, *cancel);
        };
    }
    return Task::start(info.Env(), cancel, [=]() -> Task::Finish {
        const auto bytes =
            std::make_shared<std::vector<uint8_t>>(Weights::convert(files, entry, type, *cancel, change));
        return [bytes](Napi::Env env) -> Napi::Value { return new_array(env, *bytes); };
    });
}

// quantize(type, data, rowLength)
Napi::Value quantize(const Napi::CallbackInfo & info) {
    const ggml_type type = written_type(info[0]);
    const int64_t row = info[2].ToNumber().Int64Value();
    const auto input = info[1].As<Napi::Float32Array>();
    const auto data = std::make_shared<std::vector<float>>(input.Data(), input.Data() + input.ElementLength());
    if (row < 1 || row % ggml_blck_size(type) != 0 || static_cast<int64_t>(data->size()) % row != 0) {
        throw Error("FLUX_BAD_SHAPE", "rows of " + std::to_string(row) + " numbers do not fit the type or the data");
    }
    for (const float value : *data) {
        if (!std::isfinite(value)) throw Error("FLUX_BAD_OPTION", "only finite numbers can be quantised");
    }
    return Task::start(info.Env(), std::make_shared<std::atomic<bool>>(false), [=]() -> Task::Finish {
        const int64_t rows = static_cast<int64_t>(data->size()) / row;
        auto blocks = std::make_shared<std::vector<uint8_t>>(ggml_row_size(type, row) * static_cast<size_t>(rows));
        ggml_quantize_chunk(type, data->data(), blocks->data(), 0, rows, row, nullptr);
        return [blocks](Napi::Env env) -> Napi::Value { return new_array(env, *blocks); };
    });
}

// What this CPU can do at best, with the given number of threads.
Napi::Value peak(const Napi::CallbackInfo & info) {
    const int threads = read_threads(info[0]);
    const auto cancel = std::make_shared<std::atomic<bool>>(false);
    return Task::start(info.Env(), cancel, [=]() -> Task::Finish {
        const kernels::Peak found = kernels::measure_peak(threads, *cancel);
        if (*cancel) throw Aborted();
        return [found](Napi::Env env) -> Napi::Value {
            const auto item = Napi::Object::New(env);
            item.Set("products", found.products);
            item.Set("registers", found.registers);
            item.Set("cache", found.cache);
            item.Set("floats", found.floats);
            item.Set("memory", found.memory);
            return item;
        };
    });
}

// lockFile(fd)
Napi::Value lock_file(const Napi::CallbackInfo & info) {
    return Napi::Boolean::New(info.Env(), ggflux::lock_file(info[0].ToNumber().Int32Value()));
}

// shutdown(exitStatus?)
Napi::Value shutdown(const Napi::CallbackInfo & info) {
    if (info[0].IsNumber()) set_exit_status(info[0].ToNumber().Int32Value());
    environment_of(info.Env())->shutdown();
    return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
    const auto environment = std::make_shared<Environment>(env, Task::finish);
    env.SetInstanceData(new std::shared_ptr<Environment>(environment));  // deleted by Node
    // Runs when a worker thread or the process ends normally. Before process.exit(), JavaScript calls shutdown().
    env.AddCleanupHook([environment] { environment->end(); });

    exports.Set("loadBackends", Napi::Function::New<guarded<load_backends>>(env, "loadBackends"));
    exports.Set("loadModule", Napi::Function::New<guarded<load_module>>(env, "loadModule"));
    exports.Set("devices", Napi::Function::New<guarded<devices>>(env, "devices"));
    exports.Set("driverLibraries", Napi::Function::New<guarded<driver_libraries>>(env, "driverLibraries"));
    exports.Set("drivers", Napi::Function::New<guarded<drivers>>(env, "drivers"));
    exports.Set("tryDevice", Napi::Function::New<guarded<try_device>>(env, "tryDevice"));
    exports.Set("Network", NetworkHandle::define(env));
    exports.Set("serveRpc", Napi::Function::New<guarded<serve_rpc>>(env, "serveRpc"));
    exports.Set("convert", Napi::Function::New<guarded<convert>>(env, "convert"));
    exports.Set("quantize", Napi::Function::New<guarded<quantize>>(env, "quantize"));
    exports.Set("peak", Napi::Function::New<guarded<peak>>(env, "peak"));
    exports.Set("lockFile", Napi::Function::New<guarded<lock_file>>(env, "lockFile"));
    exports.Set("shutdown", Napi::Function::New<guarded<shutdown>>(env, "shutdown"));
    return exports;
}

}  // namespace

}  // namespace ggflux

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return ggflux::init(env, exports); }
NODE_API_MODULE(ggflux, init_addon)
