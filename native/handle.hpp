// The JavaScript object around one network, and the only asynchronous worker.
#pragma once

#include "network.hpp"

#include <napi.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

namespace ggflux {

// One network with everything that it owns. Shared by its JavaScript object and the task that uses it, so either may go first.
struct Instance {
    std::unique_ptr<Evaluator> evaluator;
    std::unique_ptr<Weights> weights, adapter_weights;
    std::unique_ptr<Network> network;
    Machine machine;
    std::mutex mutex;                  // held by whoever evaluates or frees
    std::atomic<bool> cancel{false};
    std::atomic<bool> closed{false};
    std::atomic<bool> busy{false};
    std::atomic<bool> loaded{false};
    std::atomic<double> progress{0};   // of loading, 0 to 1

    void free() {
        const std::lock_guard lock(mutex);
        closed = true;
        network.reset();
        evaluator.reset();
        adapter_weights.reset();
        weights.reset();
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

std::vector<std::string> read_texts(const Napi::Array & list);
std::vector<TensorEntry> read_table(const Napi::Array & rows);

// What belongs to one JavaScript environment (the main thread, or a worker thread). It outlives its environment as long as a task runs.
class Environment {
  public:
    explicit Environment(napi_env env);

    // A task passes here before it works and after; `enter` throws FLUX_CLOSED once the environment ends.
    void enter(std::atomic<bool> * cancel);
    void leave(std::atomic<bool> * cancel);

    void add(std::weak_ptr<Instance> instance);

    // Cancels what runs, waits for it, frees every network. May be called again.
    void shutdown();

    // While it exists, the JavaScript thread is asked ten times a second whether its environment ends, and what runs is cancelled then.
    // Node waits for tasks before it runs the clean-up hook: worker.terminate() would otherwise wait for the whole evaluation.
    class Watch {
      public:
        explicit Watch(Environment & environment);
        ~Watch();

      private:
        std::mutex mutex_;
        std::condition_variable done_changed_;
        bool done_ = false;
        std::thread thread_;
    };

  private:
    void stop();  // cancels what runs; nothing begins any more
    static void ask(napi_env env, napi_value, void * environment, void *);

    napi_threadsafe_function ask_ = nullptr;  // freed by its environment, which waits for all tasks first
    std::mutex mutex_;
    std::condition_variable idle_;
    std::multiset<std::atomic<bool> *> running_;  // the cancel flags of the tasks at work
    std::vector<std::weak_ptr<Instance>> instances_;
    bool ended_ = false;
};

// Work off the JavaScript thread; a promise is settled on it. `work` may throw Error, Aborted or std::bad_alloc and may not touch JavaScript;
// what it returns makes the value on the JavaScript thread.
class Task : public Napi::AsyncWorker {
  public:
    using Finish = std::function<Napi::Value(Napi::Env)>;
    static Napi::Promise start(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work, std::function<void()> after = nullptr);

  private:
    Task(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work, std::function<void()> after);
    void Execute() override;
    void OnOK() override;
    void OnError(const Napi::Error & error) override;

    Napi::Promise::Deferred deferred_;
    std::shared_ptr<Environment> environment_;
    std::shared_ptr<std::atomic<bool>> cancel_;
    std::function<Finish()> work_;
    std::function<void()> after_;
    Finish finish_;
};

// C++ errors of synchronous calls become JavaScript errors with the same message.
template <class Function> auto guard(Napi::Env env, Function function) {
    try {
        return function();
    } catch (const Napi::Error &) {
        throw;
    } catch (const std::exception & error) {
        throw Napi::Error::New(env, error.what());
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
    void begin();  // throws when closed or at work

    std::shared_ptr<Instance> instance_;
    std::shared_ptr<Plan> plan_;  // what to load; gone afterwards
};

// per environment
struct Addon {
    explicit Addon(napi_env env) : environment(std::make_shared<Environment>(env)) {}
    std::shared_ptr<Environment> environment;
};

}  // namespace ggflux
