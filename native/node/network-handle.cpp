#include "network-handle.hpp"
#include "marshalling.hpp"

namespace ggflux {

Napi::Function NetworkHandle::define(Napi::Env env) {
    return DefineClass(
        env, "Network",
        {InstanceMethod<&NetworkHandle::load>("load"), InstanceMethod<&NetworkHandle::run>("run"),
         InstanceMethod<&NetworkHandle::measure>("measure"), InstanceMethod<&NetworkHandle::trim>("trim"),
         InstanceMethod<&NetworkHandle::adapt>("adapt"), InstanceMethod<&NetworkHandle::attach>("attach"),
         InstanceMethod<&NetworkHandle::cancel>("cancel"), InstanceMethod<&NetworkHandle::close>("close"),
         InstanceMethod<&NetworkHandle::status>("status")});
}

// new Network(kind, files, tensors, config, { device, threads, precision, deviceMemory })
NetworkHandle::NetworkHandle(const Napi::CallbackInfo & info)
    : Napi::ObjectWrap<NetworkHandle>(info), instance_(std::make_shared<Instance>()) {
    guard(info.Env(), [&] {
        spec_ = std::make_shared<NetworkSpec>(
            NetworkSpec{{info[0].ToString(), read_texts(info[1]), read_table(info[2]), read_numbers(info[3])},
                        read_machine(info[4])});
        device_ = spec_->machine.device;
        environment_of(info.Env())->add(instance_);
    });
}

namespace {

// A GPU's driver reports its failures by exceptions of its own kinds.
Task::Finish guarded_by_device(Instance & instance, const std::string & device,
                               const std::function<Task::Finish(Instance &)> & work) {
    try {
        return work(instance);
    } catch (const std::bad_alloc &) {
        throw;
    } catch (const std::exception & error) {
        const std::string said = error.what();  // our own begin with a code
        if (said.rfind("FLUX_", 0) == 0 || !is_gpu(device)) throw;
        instance.abandon();
        leave_without_destructors();
        const bool memory = said.find("Memory") != std::string::npos;
        throw Error(memory ? "FLUX_OUT_OF_MEMORY" : "FLUX_DEVICE",
                    device + " failed: " + said +
                        (memory ? "; choose a smaller image or model, or set `deviceMemory` lower"
                                : "; restart the program, update the driver, or use backend 'cpu'"));
    }
}

}  // namespace

Napi::Value NetworkHandle::alone(const Napi::CallbackInfo & info, std::function<Task::Finish(Instance &)> work) {
    const auto instance = instance_;
    if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
    if (instance->busy.exchange(true)) throw Error("FLUX_BUSY", "the network is at work; wait for the running call");
    const std::shared_ptr<void> turn(nullptr, [instance](void *) { instance->busy = false; });
    instance->cancel = false;
    const std::shared_ptr<std::atomic<bool>> flag(instance, &instance->cancel);  // keeps the instance alive
    return Task::start(info.Env(), flag, [instance, device = device_, work = std::move(work)] {
        const std::lock_guard lock(instance->mutex);
        if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
        return guarded_by_device(*instance, device, work);
    }, turn);
}

namespace {

Napi::Value nothing(Napi::Env env) { return env.Undefined(); }

LoadedNetwork & loaded(Instance & instance) {
    if (!instance.loaded) throw Error("FLUX_CLOSED", "the network was not loaded");
    return *instance.loaded;
}

}  // namespace

// load(memoryLimit)
Napi::Value NetworkHandle::load(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        if (!spec_) throw Error("FLUX_BUSY", "the network was loaded already");
        const auto promise = alone(info, [spec = spec_, limit = read_bytes(info[0])](Instance & instance) {
            instance.loaded = std::make_unique<LoadedNetwork>(*spec, limit, instance.cancel, instance.progress);
            return nothing;
        });
        spec_ = nullptr;
        return promise;
    });
}

// run(mode, shape, inputs, memoryLimit, profiled)
Napi::Value NetworkHandle::run(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        return alone(info,
                     [mode = info[0].ToString().Utf8Value(), shape = read_shape(info[1]), inputs = read_arrays(info[2]),
                      limit = read_bytes(info[3]),
                      profiled = info[4].ToBoolean().Value()](Instance & instance) -> Task::Finish {
            const auto evaluation =
                std::make_shared<Evaluation>(loaded(instance).run(mode, shape, inputs, limit, profiled));
            return [evaluation](Napi::Env env) { return evaluation_of(env, *evaluation); };
        });
    });
}

// measure(mode, shape, attachments), instead of load()
Napi::Value NetworkHandle::measure(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        if (!spec_) throw Error("FLUX_BUSY", "the network was loaded already");
        std::vector<AttachmentSpec> attachments;
        if (info[2].IsArray())
            for (auto & attachment : read_attachments(info[2]))
                attachments.push_back(std::get<AttachmentSpec>(std::move(attachment)));
        return alone(info,
                     [spec = spec_, mode = info[0].ToString().Utf8Value(), shape = read_shape(info[1]),
                      attachments = std::move(attachments)](Instance & instance) -> Task::Finish {
            const size_t bytes = ggflux::measure(*spec, mode, shape, attachments, instance.cancel);
            return [bytes](Napi::Env env) { return Napi::Number::New(env, static_cast<double>(bytes)); };
        });
    });
}

// adapt(files, tensors, adapters, memoryLimit)
Napi::Value NetworkHandle::adapt(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        return alone(info, [files = read_texts(info[0]), table = read_table(info[1]), specs = read_adapters(info[2]),
                            limit = read_bytes(info[3])](Instance & instance) {
            loaded(instance).adapt(files, table, specs, limit);
            return nothing;
        });
    });
}

// attach(attachments, memoryLimit)
Napi::Value NetworkHandle::attach(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        return alone(info, [specs = read_attachments(info[0]), limit = read_bytes(info[1])](Instance & instance) {
            loaded(instance).attach(specs, limit, instance.progress);
            return nothing;
        });
    });
}

// trim()
Napi::Value NetworkHandle::trim(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        return alone(info, [](Instance & instance) {
            if (instance.loaded) instance.loaded->trim();
            return nothing;
        });
    });
}

void NetworkHandle::cancel(const Napi::CallbackInfo &) {
    if (instance_->busy) instance_->cancel = true;
}

Napi::Value NetworkHandle::close(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        // This task has its own flag: a shutdown that cancels this task needs a flag that outlives the task.
        const auto flag = std::make_shared<std::atomic<bool>>(false);
        // If the system cannot create a thread, the JavaScript thread frees the network.
        const std::shared_ptr<void> otherwise(nullptr, [instance = instance_](void *) {
            if (!instance->closed) instance->free_if_idle();
        });
        return Task::start(info.Env(), flag, [instance = instance_]() -> Task::Finish {
            instance->free();
            return nothing;
        }, otherwise);
    });
}

Napi::Value NetworkHandle::status(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const auto result = Napi::Object::New(info.Env());
        // A running call changes everything except the progress.
        const std::unique_lock lock(instance_->mutex, std::try_to_lock);
        const LoadedNetwork * l = lock.owns_lock() ? instance_->loaded.get() : nullptr;
        const auto set = [&](const char * key, double value) { result.Set(key, value); };
        set("progress", instance_->progress);
        set("weights", l ? l->copied_bytes() : 0);
        set("mapped", l ? l->mapped_bytes() : 0);
        set("compute", l ? l->compute_bytes() : 0);
        set("nodes", l ? l->nodes() : 0);
        set("maxNodes", l ? l->max_nodes() : 0);
        return result;
    });
}

}  // namespace ggflux
