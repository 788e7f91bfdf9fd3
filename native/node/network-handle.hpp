// The JavaScript object around one network, and the only asynchronous worker.
#pragma once

#include "networks/network.hpp"

#include <napi.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <set>

namespace ggflux {

// What `load` makes. Freed from the last member to the first: graphs before the weights that they point to.
struct Loaded {
    std::unique_ptr<Weights> weights, adapter_weights;
    std::unique_ptr<Evaluator> evaluator;
    std::unique_ptr<Network> network;
};

// One network with everything that it owns. Shared by its JavaScript object and the task that uses it, so either may go first.
struct Instance {
    std::mutex mutex;  // held by whoever evaluates or frees
    std::atomic<bool> cancel{false};
    std::atomic<bool> closed{false};
    std::atomic<bool> busy{false};
    std::atomic<double> progress{0};  // of loading, 0 to 1
    Machine machine;
    std::unique_ptr<Loaded> loaded;  // null before `load` and after `free`

    // Waits for the running call.
    void free() {
        closed = true;
        const std::lock_guard lock(mutex);
        loaded.reset();
    }

    // Waits for nothing: where a call runs, whoever lets go of the instance last frees it.
    void free_if_idle() {
        closed = true;
        if (const std::unique_lock lock(mutex, std::try_to_lock); lock) loaded.reset();
    }
};

// What a network is made of: plain values, copied from JavaScript.
struct Plan {
    std::string kind;
    Machine machine;
    std::vector<std::string> files;
    std::vector<TensorEntry> table;
    std::map<std::string, double> config;
};

// A copy as a Float32Array or Uint8Array. By the class's constructor, which throws a RangeError where memory runs out: Node-API's own function
// ends the process.
template <class Number> Napi::Value new_array(Napi::Env env, const std::vector<Number> & values) {
    const auto type = env.Global().Get(sizeof(Number) == 1 ? "Uint8Array" : "Float32Array").As<Napi::Function>();
    const Napi::Object array = type.New({Napi::Number::New(env, static_cast<double>(values.size()))});
    auto typed = array.As<Napi::TypedArrayOf<Number>>();
    if (typed.ElementLength() != values.size())
        throw Error("FLUX_OUT_OF_MEMORY", "an array of " + std::to_string(values.size()) + " numbers cannot be made");
    std::copy(values.begin(), values.end(), typed.Data());
    return array;
}

std::vector<std::string> read_texts(const Napi::Array & list);
std::vector<TensorEntry> read_table(const Napi::Array & rows);

class Task;

// What belongs to one JavaScript environment (the main thread, or a worker thread). It outlives its environment as long as a task runs.
class Environment : public std::enable_shared_from_this<Environment> {
  public:
    explicit Environment(napi_env env);

    // On the JavaScript thread, around each task: the process stays alive meanwhile. `enter` throws FLUX_CLOSED once the environment ends.
    void enter(napi_env env, std::atomic<bool> * cancel);
    void settled(napi_env env);

    // On the task's thread, at its end. Gives `task` to the JavaScript thread; false where that is gone.
    bool leave(std::atomic<bool> * cancel, Task * task);

    void add(std::weak_ptr<Instance> instance);

    // Cancels what runs, waits for it, frees every network. What has not stopped after two seconds is left behind: an RPC server may never
    // answer. May be called again.
    void shutdown();

    // The same, when the environment ends: no task reaches its JavaScript thread afterwards.
    void end();

  private:
    bool wait_until_idle();
    static void settle(napi_env env, napi_value, void *, void * task);

    napi_threadsafe_function settle_ = nullptr;  // freed by its environment, after end()
    int unsettled_ = 0;                          // tasks; of the JavaScript thread
    std::mutex mutex_;
    std::condition_variable idle_;
    std::multiset<std::atomic<bool> *> running_;  // the cancel flags of the tasks at work
    std::vector<std::weak_ptr<Instance>> instances_;
    bool ended_ = false;  // nothing begins any more
    bool gone_ = false;   // nobody is there to settle promises
};

// Work on a thread of its own; a promise is settled on the JavaScript thread. Not on libuv's pool: its four threads are the host's, for files
// and DNS. `work` may throw and may not touch JavaScript; what it returns makes the value on the JavaScript thread. `turn` is let go when the
// promise is settled.
class Task {
  public:
    using Finish = std::function<Napi::Value(Napi::Env)>;
    // Whatever goes wrong rejects the promise. `cancel` is set when the environment ends.
    static Napi::Promise start(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work,
                               std::shared_ptr<void> turn = nullptr);

  private:
    friend class Environment;
    static void * run(void * task);
    void settle(napi_env env);

    napi_deferred deferred_ = nullptr;
    std::shared_ptr<Environment> environment_;
    std::shared_ptr<std::atomic<bool>> cancel_;
    std::shared_ptr<void> turn_;
    std::function<Finish()> work_;
    Finish finish_;
    std::exception_ptr failure_;
    pthread_t thread_;
};

// What is said of a failure: the message of an Error, or one that begins with a code where something else was thrown.
std::string message_of(const std::exception_ptr & failure);

// C++ errors of synchronous calls become JavaScript errors with the same message.
template <class Function> auto guard(Napi::Env env, Function function) {
    try {
        return function();
    } catch (const Napi::Error &) {
        throw;
    } catch (...) {
        throw Napi::Error::New(env, message_of(std::current_exception()));
    }
}

class NetworkHandle : public Napi::ObjectWrap<NetworkHandle> {
  public:
    static Napi::Function define(Napi::Env env);
    explicit NetworkHandle(const Napi::CallbackInfo & info);
    ~NetworkHandle() override;

  private:
    Napi::Value load(const Napi::CallbackInfo & info);
    Napi::Value run(const Napi::CallbackInfo & info);
    Napi::Value measure(const Napi::CallbackInfo & info);
    Napi::Value trim(const Napi::CallbackInfo & info);
    Napi::Value adapt(const Napi::CallbackInfo & info);
    Napi::Value close(const Napi::CallbackInfo & info);
    Napi::Value status(const Napi::CallbackInfo & info);
    void cancel(const Napi::CallbackInfo & info);

    // A task that has the network to itself; throws when it is closed or at work.
    Napi::Value alone(const Napi::CallbackInfo & info, std::function<Task::Finish(Instance &)> work);

    std::shared_ptr<Instance> instance_;
    std::shared_ptr<Plan> plan_;  // what to load; gone afterwards
};

// per environment
struct Addon {
    explicit Addon(napi_env env) : environment(std::make_shared<Environment>(env)) {}
    std::shared_ptr<Environment> environment;
};

}  // namespace ggflux
