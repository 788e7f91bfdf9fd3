#include "handle.hpp"
#include "addition.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

namespace ggflux {

namespace {

std::shared_ptr<Environment> environment_of(Napi::Env env) { return env.GetInstanceData<Addon>()->environment; }

// The cancel flag of an instance, kept alive with it.
std::shared_ptr<std::atomic<bool>> flag_of(const std::shared_ptr<Instance> & instance) { return {instance, &instance->cancel}; }

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
    for (size_t i = 0; i < outputs.size(); i++) {
        auto array = Napi::Float32Array::New(env, outputs[i].size());
        std::copy(outputs[i].begin(), outputs[i].end(), array.Data());
        list.Set(static_cast<uint32_t>(i), array);
    }
    return list;
}

Precision precision_of(const std::string & name) {
    if (name != "auto" && name != "f32" && name != "bf16") throw Error("FLUX_BAD_OPTION", "there is no precision called " + name);
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
        if (type < 0 || type >= GGML_TYPE_COUNT) throw Error("FLUX_BAD_FILE", "a tensor has the unknown type " + std::to_string(type));
        const std::string float8 = row.Get("float8").ToString();  // or "undefined"
        TensorEntry entry = {row.Get("name").ToString(), static_cast<ggml_type>(type), {},
                             float8 == "e4m3fn" ? Float8::e4m3fn : float8 == "e5m2" ? Float8::e5m2 : Float8::none, {}};
        const Napi::Array shape = row.Get("shape").As<Napi::Array>();
        for (uint32_t d = 0; d < shape.Length() && d < 8; d++) entry.shape.push_back(shape.Get(d).ToNumber().Int64Value());
        const Napi::Array pieces = row.Get("pieces").As<Napi::Array>();
        for (uint32_t p = 0; p < pieces.Length(); p++) {
            const Napi::Object piece = pieces.Get(p).As<Napi::Object>();
            const auto place = [&](const char * key) {
                const double bytes = piece.Get(key).ToNumber().DoubleValue();
                if (!(bytes >= 0 && bytes < 9007199254740992.0)) throw Error("FLUX_BAD_FILE", "tensor " + entry.name + ": a place is out of range");
                return static_cast<size_t>(bytes);
            };
            entry.pieces.push_back({piece.Get("file").ToNumber().Uint32Value(), place("offset"), place("bytes"),
                                    piece.Get("scale").IsUndefined() ? SIZE_MAX : place("scale")});
        }
        table.push_back(std::move(entry));
    }
    return table;
}

// ---- Environment ----

void Environment::enter(std::atomic<bool> * cancel) {
    const std::lock_guard lock(mutex_);
    if (ended_) throw Error("FLUX_CLOSED", "ggflux was shut down");
    running_.insert(cancel);
}

void Environment::leave(std::atomic<bool> * cancel) {
    const std::lock_guard lock(mutex_);
    running_.erase(running_.find(cancel));
    if (running_.empty()) idle_.notify_all();
}

void Environment::add(std::weak_ptr<Instance> instance) {
    const std::lock_guard lock(mutex_);
    instances_.erase(std::remove_if(instances_.begin(), instances_.end(), [](const auto & i) { return i.expired(); }), instances_.end());
    instances_.push_back(std::move(instance));
}

Environment::Environment(napi_env env) {
    const napi_value name = Napi::String::New(env, "ggflux");
    const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 1, 1, nullptr, nullptr, this, ask, &ask_);
    if (status != napi_ok) throw Napi::Error::New(env);
    napi_unref_threadsafe_function(env, ask_);  // it shall not keep the process alive
}

void Environment::ask(napi_env env, napi_value, void * environment, void *) {
    napi_value global = nullptr;
    bool found = false;
    // Any access to an object is refused once JavaScript can run no more.
    const bool alive = env && napi_get_global(env, &global) == napi_ok && napi_has_named_property(env, global, "process", &found) == napi_ok;
    if (!alive) static_cast<Environment *>(environment)->stop();
}

Environment::Watch::Watch(Environment & environment) {
    try {
        thread_ = std::thread([this, ask = environment.ask_] {
            std::unique_lock lock(mutex_);
            while (!done_changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return done_; })) {
                napi_call_threadsafe_function(ask, nullptr, napi_tsfn_nonblocking);
            }
        });
    } catch (const std::system_error &) {
        // the system gives no more threads: the task is not cancelled when the environment ends, only waited for
    }
}

Environment::Watch::~Watch() {
    {
        const std::lock_guard lock(mutex_);
        done_ = true;
    }
    done_changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void Environment::stop() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    for (std::atomic<bool> * cancel : running_) *cancel = true;
}

void Environment::shutdown() {
    stop();
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return running_.empty(); });
    for (const auto & weak : instances_) {
        if (const auto instance = weak.lock()) instance->free();
    }
    instances_.clear();
}

// ---- Task ----

Task::Task(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work, std::function<void()> after)
    : Napi::AsyncWorker(env, "ggflux"), deferred_(Napi::Promise::Deferred::New(env)), environment_(environment_of(env)), cancel_(std::move(cancel)),
      work_(std::move(work)), after_(std::move(after)) {}

Napi::Promise Task::start(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work, std::function<void()> after) {
    Task * task = new Task(env, std::move(cancel), std::move(work), std::move(after));  // deletes itself when settled
    const Napi::Promise promise = task->deferred_.Promise();
    task->Queue();
    return promise;
}

void Task::Execute() {
    try {
        environment_->enter(cancel_.get());
        struct Leave { Task & task; ~Leave() { task.environment_->leave(task.cancel_.get()); } } leave{*this};
        const Environment::Watch watch(*environment_);
        finish_ = work_();
    } catch (const std::bad_alloc &) {
        SetError("FLUX_OUT_OF_MEMORY: memory ran out; choose a smaller picture or model, or free memory");
    } catch (const std::exception & error) {
        SetError(error.what());
    }
}

void Task::OnOK() {
    if (after_) after_();
    deferred_.Resolve(finish_(Env()));
}

void Task::OnError(const Napi::Error & error) {
    if (after_) after_();
    deferred_.Reject(error.Value());
}

// ---- NetworkHandle ----

Napi::Function NetworkHandle::define(Napi::Env env) {
    return DefineClass(env, "Network", {InstanceMethod<&NetworkHandle::load>("load"), InstanceMethod<&NetworkHandle::run>("run"),
                                        InstanceMethod<&NetworkHandle::measure>("measure"),
                                        InstanceMethod<&NetworkHandle::trim>("trim"), InstanceMethod<&NetworkHandle::adapt>("adapt"),
                                        InstanceMethod<&NetworkHandle::cancel>("cancel"), InstanceMethod<&NetworkHandle::close>("close"),
                                        InstanceMethod<&NetworkHandle::status>("status")});
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
        if (const auto bytes = options.Get("deviceMemory"); !bytes.IsUndefined()) plan_->machine.device_memory = byte_count(bytes);
        plan_->machine.threads = std::min(512, std::max(1, options.Get("threads").ToNumber().Int32Value()));
        environment_of(info.Env())->add(instance_);
    });
}

// Garbage collection without close(). A task that still runs holds the instance, which is then freed by the task's end.
NetworkHandle::~NetworkHandle() = default;

void NetworkHandle::begin() {
    if (instance_->closed) throw Error("FLUX_CLOSED", "the network was closed");
    if (instance_->busy.exchange(true)) throw Error("FLUX_BUSY", "the network is at work; wait for the running call");
    instance_->cancel = false;
}

// load(memoryLimit)
Napi::Value NetworkHandle::load(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const size_t memory_limit = byte_count(info[0]);
        if (!plan_) throw Error("FLUX_BUSY", "the network was loaded already");
        begin();
        const auto instance = instance_;
        const auto plan = std::move(plan_);
        return Task::start(info.Env(), flag_of(instance), [=]() -> Task::Finish {
            const std::lock_guard lock(instance->mutex);
            if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
            instance->weights = std::make_unique<Weights>(plan->files, std::move(plan->table));
            instance->network = make_network(plan->kind, Config(plan->config), *instance->weights);
            instance->evaluator = std::make_unique<Evaluator>(plan->machine, instance->cancel);
            instance->weights->load(instance->evaluator->device(), plan->machine, memory_limit, instance->cancel, instance->progress);
            instance->machine = plan->machine;
            instance->loaded = true;
            return [](Napi::Env env) { return env.Undefined(); };
        }, [instance] { instance->busy = false; });
    });
}

// run(mode, shape, inputs, memoryLimit, profiled)
Napi::Value NetworkHandle::run(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const auto [mode, shape] = mode_and_shape(info);
        auto inputs = std::make_shared<std::vector<Array>>();
        const auto arrays = info[2].As<Napi::Array>();
        for (uint32_t i = 0; i < arrays.Length(); i++) inputs->push_back(copy_array(arrays.Get(i)));
        const size_t memory_limit = byte_count(info[3]);
        const bool profiled = info[4].ToBoolean();

        begin();
        const auto instance = instance_;
        return Task::start(info.Env(), flag_of(instance), [=, mode = mode, shape = shape]() -> Task::Finish {
            const std::lock_guard lock(instance->mutex);
            if (instance->closed) throw Error("FLUX_CLOSED", "the network was closed");
            if (!instance->loaded) throw Error("FLUX_CLOSED", "the network was not loaded");
            std::string key = mode;
            for (const int64_t n : shape) key += "," + std::to_string(n);
            const Network & network = *instance->network;
            const auto build = [&](Graph & g) { network.build(g, mode, shape); };
            const auto profile = std::make_shared<std::vector<Operation>>();
            const auto outputs = std::make_shared<std::vector<std::vector<float>>>(
                instance->evaluator->run(key, network.max_nodes(), build, *inputs, memory_limit, profiled ? profile.get() : nullptr));
            return [outputs, profile](Napi::Env env) -> Napi::Value {
                const auto result = Napi::Object::New(env);
                result.Set("outputs", arrays_of(env, *outputs));
                result.Set("profile", objects_of(env, *profile));
                return result;
            };
        }, [instance] { instance->busy = false; });
    });
}

// measure(mode, shape), instead of load()
Napi::Value NetworkHandle::measure(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const auto number = [](size_t bytes) -> Task::Finish {
            return [bytes](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, static_cast<double>(bytes)); };
        };
        if (!plan_) throw Error("FLUX_BUSY", "the network was loaded already");
        const auto [mode, shape] = mode_and_shape(info);
        begin();
        const auto instance = instance_;
        return Task::start(info.Env(), flag_of(instance), [=, plan = *plan_, mode = mode, shape = shape]() -> Task::Finish {
            Weights weights(plan.files, plan.table);
            const auto network = make_network(plan.kind, Config(plan.config), weights);
            Evaluator evaluator(plan.machine, instance->cancel);
            weights.pretend(evaluator.device(), plan.machine);
            return number(evaluator.measure(network->max_nodes(), [&](Graph & g) { network->build(g, mode, shape); }));
        }, [instance] { instance->busy = false; });
    });
}

// adapt(files, tensors, additions, memoryLimit)
Napi::Value NetworkHandle::adapt(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        const auto files = read_texts(info[0].As<Napi::Array>());
        auto table = std::make_shared<std::vector<TensorEntry>>(read_table(info[1].As<Napi::Array>()));
        const auto additions = read_additions(info[2].As<Napi::Array>());
        const size_t memory_limit = byte_count(info[3]);
        begin();
        const auto instance = instance_;
        return Task::start(info.Env(), flag_of(instance), [=]() -> Task::Finish {
            const std::lock_guard lock(instance->mutex);
            if (instance->closed || !instance->loaded) throw Error("FLUX_CLOSED", "the network is not loaded");
            auto weights = std::make_unique<Weights>(files, std::move(*table));
            Adapters adapters;
            for (const Addition & a : additions) {
                const ggml_tensor * layer = instance->weights->find(a.weight);
                if (!layer || layer->ne[2] != 1) throw Error("FLUX_BAD_FILE", "an addition is for " + a.weight + ", which is no layer");
                const bool vector = ggml_n_dims(layer) == 1;
                adapters[layer].push_back(vector ? want_adapter(*weights, a, 1, layer->ne[0]) : want_adapter(*weights, a, layer->ne[0], layer->ne[1]));
            }
            std::atomic<double> progress{0};
            weights->load(instance->evaluator->device(), instance->machine, memory_limit, instance->cancel, progress);
            instance->evaluator->set_adapters(std::move(adapters));
            instance->adapter_weights = std::move(weights);
            return [](Napi::Env env) { return env.Undefined(); };
        }, [instance] { instance->busy = false; });
    });
}

// frees the buffers for activations
Napi::Value NetworkHandle::trim(const Napi::CallbackInfo & info) {
    return guard(info.Env(), [&]() -> Napi::Value {
        begin();
        const auto instance = instance_;
        return Task::start(info.Env(), flag_of(instance), [instance]() -> Task::Finish {
            const std::lock_guard lock(instance->mutex);
            if (instance->loaded && !instance->closed) instance->evaluator->trim();
            return [](Napi::Env env) { return env.Undefined(); };
        }, [instance] { instance->busy = false; });
    });
}

void NetworkHandle::cancel(const Napi::CallbackInfo &) {
    if (instance_->busy) instance_->cancel = true;
}

Napi::Value NetworkHandle::close(const Napi::CallbackInfo & info) {
    const auto instance = instance_;
    // A flag of its own: a shutdown that cancels this task must find a flag that outlives it.
    return Task::start(info.Env(), std::make_shared<std::atomic<bool>>(false), [instance]() -> Task::Finish {
        instance->free();
        return [](Napi::Env env) { return env.Undefined(); };
    });
}

Napi::Value NetworkHandle::status(const Napi::CallbackInfo & info) {
    const auto result = Napi::Object::New(info.Env());
    const std::unique_lock lock(instance_->mutex, std::try_to_lock);  // a load that runs changes all but the progress
    const bool known = lock.owns_lock() && instance_->loaded && !instance_->closed;
    result.Set("progress", instance_->progress.load());
    result.Set("weights", known ? static_cast<double>(instance_->weights->copied_bytes()) : 0.0);
    result.Set("mapped", known ? static_cast<double>(instance_->weights->mapped_bytes()) : 0.0);
    result.Set("compute", known ? static_cast<double>(instance_->evaluator->compute_bytes()) : 0.0);
    return result;
}

}  // namespace ggflux
