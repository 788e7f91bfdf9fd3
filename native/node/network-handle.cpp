#include "network-handle.hpp"
#include "adapters/adapter.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>
#include <thread>

namespace ggflux {

namespace {

std::shared_ptr<Environment> environment_of(Napi::Env env) { return env.GetInstanceData<Addon>()->environment; }

// The cancel flag of an instance, kept alive with it.
std::shared_ptr<std::atomic<bool>> flag_of(const std::shared_ptr<Instance> & instance) {
    return {instance, &instance->cancel};
}

Array copy_array(const Napi::Value & value) {
    if (value.IsTypedArray()) {
        const auto array = value.As<Napi::TypedArray>();
        if (array.TypedArrayType() == napi_float32_array) {
            const auto typed = value.As<Napi::Float32Array>();
            return std::vector<float>(typed.Data(), typed.Data() + typed.ElementLength());
        }
        if (array.TypedArrayType() == napi_int32_array) {
            const auto typed = value.As<Napi::Int32Array>();
            return std::vector<int32_t>(typed.Data(), typed.Data() + typed.ElementLength());
        }
    }
    throw Error("FLUX_BAD_OPTION", "inputs must be Float32Array or Int32Array");
}

std::pair<std::string, Shape> mode_and_shape(const Napi::CallbackInfo & info) {
    Shape shape;
    const auto dimensions = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < dimensions.Length(); i++) shape.push_back(dimensions.Get(i).ToNumber().Int64Value());
    return {info[0].ToString(), shape};
}

Napi::Value objects_of(Napi::Env env, const std::vector<Operation> & operations) {
    const auto list = Napi::Array::New(env, operations.size());
    for (size_t i = 0; i < operations.size(); i++) {
        const auto item = Napi::Object::New(env);
        item.Set("name", operations[i].name);
        item.Set("type", operations[i].type);
        item.Set("count", static_cast<double>(operations[i].count));
        item.Set("ms", operations[i].seconds * 1e3);
        item.Set("operations", operations[i].operations);
        item.Set("bytes", operations[i].bytes);
        list.Set(static_cast<uint32_t>(i), item);
    }
    return list;
}

Napi::Value arrays_of(Napi::Env env, const std::vector<std::vector<float>> & outputs) {
    auto list = Napi::Array::New(env, outputs.size());
    for (size_t i = 0; i < outputs.size(); i++) list.Set(static_cast<uint32_t>(i), new_array(env, outputs[i]));
    return list;
}

Precision precision_of(const std::string & name) {
    if (name != "auto" && name != "f32" && name != "bf16")
        throw Error("FLUX_BAD_OPTION", "there is no precision called " + name);
    return name == "f32" ? Precision::f32 : name == "bf16" ? Precision::bf16 : Precision::automatic;
}

size_t byte_count(const Napi::Value & value) {
    const double bytes = value.ToNumber().DoubleValue();
    if (!(bytes >= 0)) return 0;
    return bytes >= 9e18 ? static_cast<size_t>(9e18) : static_cast<size_t>(bytes);
}

}  // namespace

std::vector<std::string> read_texts(const Napi::Array & list) {
    std::vector<std::string> texts;
    for (uint32_t i = 0; i < list.Length(); i++) texts.push_back(list.Get(i).ToString());
    return texts;
}

std::vector<TensorEntry> read_table(const Napi::Array & rows) {
    std::vector<TensorEntry> table;
    for (uint32_t i = 0; i < rows.Length(); i++) {
        const Napi::HandleScope scope(rows.Env());
        const Napi::Object row = rows.Get(i).As<Napi::Object>();
        const int32_t type = row.Get("type").ToNumber().Int32Value();
        if (type < 0 || type >= GGML_TYPE_COUNT)
            throw Error("FLUX_BAD_FILE", "a tensor has the unknown type " + std::to_string(type));
        const std::string float8 = row.Get("float8").ToString();  // or "undefined"
        TensorEntry entry = {row.Get("name").ToString(),
                             static_cast<ggml_type>(type),
                             {},
                             float8 == "e4m3fn" ? Float8::e4m3fn
                             : float8 == "e5m2" ? Float8::e5m2
                                                : Float8::none,
                             {}};
        const Napi::Array shape = row.Get("shape").As<Napi::Array>();
        for (uint32_t d = 0; d < shape.Length() && d < 8; d++)
            entry.shape.push_back(shape.Get(d).ToNumber().Int64Value());
        const Napi::Array pieces = row.Get("pieces").As<Napi::Array>();
        for (uint32_t p = 0; p < pieces.Length(); p++) {
            const Napi::Object piece = pieces.Get(p).As<Napi::Object>();
            const auto place = [&](const char * key) {
                const double bytes = piece.Get(key).ToNumber().DoubleValue();
                if (!(bytes >= 0 && bytes < 9007199254740992.0))
                    throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": a place is out of range");
                return static_cast<size_t>(bytes);
            };
            entry.pieces.push_back({piece.Get("file").ToNumber().Uint32Value(), place("offset"), place("bytes"),
                                    piece.Get("scale").IsUndefined() ? SIZE_MAX : place("scale")});
        }
        table.push_back(std::move(entry));
    }
    return table;
}

std::string message_of(const std::exception_ptr & failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const std::bad_alloc &) {
        return "FLUX_OUT_OF_MEMORY: memory ran out; choose a smaller picture or model, or free memory";
    } catch (const std::system_error & error) {
        return std::string("FLUX_DEVICE: the system gives no further thread (") + error.what() +
               "); raise the limit of threads (ulimit -u, docker --pids-limit, systemd's TasksMax), or set `threads` "
               "lower";
    } catch (const std::exception & error) {
        return error.what();
    } catch (...) {
        return "FLUX_DEVICE: the native part failed for an unknown reason";
    }
}

// ---- Environment ----

namespace {

// An evaluation stops within tenths of a second. A server that stopped answering never does.
constexpr std::chrono::seconds patience{2};

}  // namespace

Environment::Environment(napi_env env) {
    const napi_value name = Napi::String::New(env, "ggflux");
    const napi_status status =
        napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, settle, &settle_);
    if (status != napi_ok) throw Napi::Error::New(env);
    napi_unref_threadsafe_function(env, settle_);  // only tasks keep the process alive
}

void Environment::enter(napi_env env, std::atomic<bool> * cancel) {
    {
        const std::lock_guard lock(mutex_);
        if (ended_) throw Error("FLUX_CLOSED", "ggflux was shut down");
        running_.insert(cancel);
    }
    if (unsettled_++ == 0) napi_ref_threadsafe_function(env, settle_);
}

void Environment::settled(napi_env env) {
    if (--unsettled_ == 0) napi_unref_threadsafe_function(env, settle_);
}

bool Environment::leave(std::atomic<bool> * cancel, Task * task) {
    const std::lock_guard lock(mutex_);
    running_.erase(running_.find(cancel));
    if (running_.empty()) idle_.notify_all();
    return task && !gone_ && napi_call_threadsafe_function(settle_, task, napi_tsfn_nonblocking) == napi_ok;
}

void Environment::add(std::weak_ptr<Instance> instance) {
    const std::lock_guard lock(mutex_);
    instances_.erase(std::remove_if(instances_.begin(), instances_.end(), [](const auto & i) { return i.expired(); }),
                     instances_.end());
    instances_.push_back(std::move(instance));
}

// With `env` null where the environment ended before.
void Environment::settle(napi_env env, napi_value, void *, void * data) {
    const std::unique_ptr<Task> task(static_cast<Task *>(data));
    pthread_join(task->thread_, nullptr);  // it has nothing left to do
    if (!env) return;
    task->environment_->settled(env);
    napi_value global = nullptr;
    bool found = false;
    // Any access to an object is refused once JavaScript can run no more.
    if (napi_get_global(env, &global) == napi_ok && napi_has_named_property(env, global, "process", &found) == napi_ok)
        task->settle(env);
}

bool Environment::wait_until_idle() {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, patience, [this] { return running_.empty(); });
}

void Environment::shutdown() {
    const auto instances = std::make_shared<std::vector<std::shared_ptr<Instance>>>();
    {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        for (std::atomic<bool> * cancel : running_) *cancel = true;
        for (const auto & weak : instances_) {
            if (auto instance = weak.lock()) instances->push_back(std::move(instance));
        }
        instances_.clear();
    }
    const bool stopped = wait_until_idle();
    if (instances->empty()) return;
    // On a thread: what is freed on an RPC server waits behind a call that it does not answer.
    const auto flag = std::make_shared<std::atomic<bool>>(true);
    const auto free_all = [self = shared_from_this(), flag, instances] {
        for (const auto & instance : *instances) instance->free_if_idle();
        instances->clear();
        self->leave(flag.get(), nullptr);
    };
    {
        const std::lock_guard lock(mutex_);
        running_.insert(flag.get());
    }
    try {
        std::thread(free_all).detach();
    } catch (const std::system_error &) {
        free_all();
    }
    if (stopped) wait_until_idle();
}

void Environment::end() {
    shutdown();
    const std::lock_guard lock(mutex_);
    gone_ = true;
}

// ---- Task ----

namespace {

// With the stack that libuv's threads have: a graph is walked by recursion, for which macOS' half a mebibyte is too little.
pthread_t start_thread(void * (*run)(void *), void * argument) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size_t{8} << 20);
    pthread_t thread;
    const int failure = pthread_create(&thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    if (failure != 0) throw std::system_error(failure, std::generic_category());
    return thread;
}

}  // namespace

Napi::Promise Task::start(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work,
                          std::shared_ptr<void> turn) {
    auto task = std::make_unique<Task>();
    napi_value promise = nullptr;
    if (napi_create_promise(env, &task->deferred_, &promise) != napi_ok) throw Napi::Error::New(env);
    task->environment_ = environment_of(env);
    task->cancel_ = std::move(cancel);
    task->work_ = std::move(work);
    task->turn_ = std::move(turn);
    bool entered = false;
    try {
        task->environment_->enter(env, task->cancel_.get());
        entered = true;
        task->thread_ = start_thread(&Task::run, task.get());
        static_cast<void>(task.release());  // Environment::settle deletes it, or its thread
    } catch (...) {
        if (entered) {
            task->environment_->leave(task->cancel_.get(), nullptr);
            task->environment_->settled(env);
        }
        task->failure_ = std::current_exception();
        task->settle(env);
    }
    return Napi::Promise(env, promise);
}

void * Task::run(void * data) {
    auto * task = static_cast<Task *>(data);
    try {
        task->finish_ = task->work_();
    } catch (...) {
        task->failure_ = std::current_exception();
    }
    if (!task->environment_->leave(task->cancel_.get(), task)) {
        pthread_detach(pthread_self());
        delete task;
    }
    return nullptr;
}

void Task::settle(napi_env env) {
    const auto reject = [&](napi_value reason) { napi_reject_deferred(env, deferred_, reason); };
    try {
        if (failure_) std::rethrow_exception(failure_);
        napi_resolve_deferred(env, deferred_, finish_(env));
    } catch (const Napi::Error & error) {
        reject(error.Value());
    } catch (...) {
        reject(Napi::Error::New(env, message_of(std::current_exception())).Value());
    }
}

// ---- NetworkHandle ----

Napi::Function NetworkHandle::define(Napi::Env env) {
    return DefineClass(
        env, "Network",
        {InstanceMethod<&NetworkHandle::load>("load"), InstanceMethod<&NetworkHandle::run>("run"),
         InstanceMethod<&NetworkHandle::measure>("measure"), InstanceMethod<&NetworkHandle::trim>("trim"),
         InstanceMethod<&NetworkHandle::adapt>("adapt"), InstanceMethod<&NetworkHandle::cancel>("cancel"),
         InstanceMethod<&NetworkHandle::close>("close"), InstanceMethod<&NetworkHandle::status>("status")});
}

// new Network(kind, files, tensors, config, { device, threads, precision })
NetworkHandle::NetworkHandle(const Napi::CallbackInfo & info)
    : Napi::ObjectWrap<NetworkHandle>(info), instance_(std::make_shared<Instance>()), plan_(std::make_shared<Plan>()) {
    guard(info.Env(), [&] {
        plan_->kind = info[0].ToString();
        plan_->files = read_texts(info[1].As<Napi::Array>());
        plan_->table = read_table(info[2].As<Napi::Array>());
        const auto config = info[3].As<Napi::Object>();
        const auto names = config.GetPropertyNames();
        for (uint32_t i = 0; i < names.Length(); i++) {
            const std::string name = names.Get(i).ToString();
            plan_->config[name] = config.Get(name).ToNumber().DoubleValue();
        }
        const auto options = info[4].As<Napi::Object>();
        plan_->machine.device = options.Get("device").ToString();
        plan_->machine.precision = precision_of(options.Get("precision").ToString());
        if (const auto bytes = options.Get("deviceMemory"); !bytes.IsUndefined())
            plan_->machine.device_memory = byte_count(bytes);
        plan_->machine.threads = std::min(512, std::max(1, options.Get("threads").ToNumber().Int32Value()));
        environment_of(info.Env())->add(instance_);
    });
}

// Garbage collection without close(). A task that still runs holds the instance, which is then freed by the task's end.
NetworkHandle::~NetworkHandle() = default;

Napi::Value NetworkHandle::alone(const Napi::CallbackInfo & info, std::function<Task::Finish(Instance &)> work) {
    const auto instance = instance_;
    if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
    if (instance->busy.exchange(true)) throw Error("FLUX_BUSY", "the network is at work; wait for the running call");
    const std::shared_ptr<void> turn(nullptr, [instance](void *) { instance->busy = false; });
    instance->cancel = false;
    return Task::start(info.Env(), flag_of(instance), [instance, work = std::move(work)] {
        const std::lock_guard lock(instance->mutex);
        if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
        return work(*instance);
    }, turn);
}

namespace {

Napi::Value nothing(Napi::Env env) { return env.Undefined(); }

Loaded & loaded(Instance & instance) {
    if (!instance.loaded) throw Error("FLUX_CLOSED", "the network was not loaded");
    return *instance.loaded;
}

}  // namespace

// load(memoryLimit)
Napi::Value NetworkHandle::load(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        const size_t memory_limit = byte_count(info[0]);
        if (!plan_) throw Error("FLUX_BUSY", "the network was loaded already");
        const auto plan = plan_;
        const Napi::Value promise = alone(info, [=](Instance & instance) -> Task::Finish {
            auto made = std::make_unique<Loaded>();
            made->weights = std::make_unique<Weights>(plan->files, std::move(plan->table));
            made->network = make_network(plan->kind, Config(plan->config), *made->weights);
            made->evaluator = std::make_unique<Evaluator>(plan->machine, instance.cancel);
            made->weights->load(made->evaluator->device(), plan->machine, Weights::Mapping::allowed, memory_limit,
                                instance.cancel, instance.progress);
            instance.machine = plan->machine;
            instance.loaded = std::move(made);
            return nothing;
        });
        plan_ = nullptr;
        return promise;
    });
}

// run(mode, shape, inputs, memoryLimit, profiled)
Napi::Value NetworkHandle::run(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        const auto [mode, shape] = mode_and_shape(info);
        auto inputs = std::make_shared<std::vector<Array>>();
        const auto arrays = info[2].As<Napi::Array>();
        for (uint32_t i = 0; i < arrays.Length(); i++) inputs->push_back(copy_array(arrays.Get(i)));
        const size_t memory_limit = byte_count(info[3]);
        const bool profiled = info[4].ToBoolean();

        return alone(info, [=, mode = mode, shape = shape](Instance & instance) -> Task::Finish {
            const Loaded & l = loaded(instance);
            std::string key = mode;
            for (const int64_t n : shape) key += "," + std::to_string(n);
            const auto build = [&](Graph & g) { l.network->build(g, mode, shape); };
            const auto profile = std::make_shared<std::vector<Operation>>();
            l.weights->check_unchanged();
            const auto outputs = std::make_shared<std::vector<std::vector<float>>>(l.evaluator->run(
                key, l.network->max_nodes(), build, *inputs, memory_limit, profiled ? profile.get() : nullptr));
            l.weights->check_unchanged();  // meanwhile
            return [outputs, profile](Napi::Env env) -> Napi::Value {
                const auto result = Napi::Object::New(env);
                result.Set("outputs", arrays_of(env, *outputs));
                result.Set("profile", objects_of(env, *profile));
                return result;
            };
        });
    });
}

// measure(mode, shape), instead of load()
Napi::Value NetworkHandle::measure(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        if (!plan_) throw Error("FLUX_BUSY", "the network was loaded already");
        const auto [mode, shape] = mode_and_shape(info);
        return alone(info, [plan = *plan_, mode = mode, shape = shape](Instance & instance) -> Task::Finish {
            Weights weights(plan.files, plan.table);
            const auto network = make_network(plan.kind, Config(plan.config), weights);
            Evaluator evaluator(plan.machine, instance.cancel);
            weights.pretend(evaluator.device(), plan.machine);
            const size_t bytes =
                evaluator.measure(network->max_nodes(), [&](Graph & g) { network->build(g, mode, shape); });
            return [bytes](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(bytes)); };
        });
    });
}

// adapt(files, tensors, additions, memoryLimit)
Napi::Value NetworkHandle::adapt(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        const auto files = read_texts(info[0].As<Napi::Array>());
        auto table = std::make_shared<std::vector<TensorEntry>>(read_table(info[1].As<Napi::Array>()));
        const auto additions = read_additions(info[2].As<Napi::Array>());
        const size_t memory_limit = byte_count(info[3]);
        return alone(info, [=](Instance & instance) -> Task::Finish {
            Loaded & l = loaded(instance);
            auto weights = std::make_unique<Weights>(files, std::move(*table));
            Adapters adapters;
            for (const Addition & a : additions) {
                const ggml_tensor * layer = l.weights->find(a.weight);
                if (!layer || layer->ne[2] != 1)
                    throw Error("FLUX_BAD_FILE", "an addition is for " + a.weight + ", which is no layer");
                const bool vector = ggml_n_dims(layer) == 1;
                adapters[layer].push_back(vector ? want_adapter(*weights, a, 1, layer->ne[0])
                                                 : want_adapter(*weights, a, layer->ne[0], layer->ne[1]));
            }
            std::atomic<double> progress{0};
            weights->load(l.evaluator->device(), instance.machine, Weights::Mapping::never, memory_limit,
                          instance.cancel, progress);
            l.evaluator->set_adapters(std::move(adapters));
            l.adapter_weights = std::move(weights);
            return nothing;
        });
    });
}

// frees the buffers for activations
Napi::Value NetworkHandle::trim(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&] {
        return alone(info, [](Instance & instance) -> Task::Finish {
            if (instance.loaded) instance.loaded->evaluator->trim();
            return nothing;
        });
    });
}

void NetworkHandle::cancel(const Napi::CallbackInfo &) {
    if (instance_->busy) instance_->cancel = true;
}

Napi::Value NetworkHandle::close(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        // A flag of its own: a shutdown that cancels this task must find a flag that outlives it.
        const auto flag = std::make_shared<std::atomic<bool>>(false);
        // Where the system gives no thread, the JavaScript thread frees.
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
        const std::unique_lock lock(instance_->mutex,
                                    std::try_to_lock);  // a call that runs changes all but the progress
        const Loaded * l = lock.owns_lock() ? instance_->loaded.get() : nullptr;
        result.Set("progress", instance_->progress.load());
        result.Set("weights", l ? static_cast<double>(l->weights->copied_bytes()) : 0.0);
        result.Set("mapped", l ? static_cast<double>(l->weights->mapped_bytes()) : 0.0);
        result.Set("compute", l ? static_cast<double>(l->evaluator->compute_bytes()) : 0.0);
        return result;
    });
}

}  // namespace ggflux
