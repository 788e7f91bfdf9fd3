// The state of one JavaScript environment, which is the main thread or a worker thread.
#pragma once

#include "instance.hpp"

#include <napi.h>

#include <condition_variable>
#include <set>

namespace ggflux {

// It outlives its JavaScript environment while a task runs.
class Environment : public std::enable_shared_from_this<Environment> {
  public:
    // `settle` runs on the JavaScript thread and receives the task that was passed to `leave`.
    Environment(napi_env env, napi_threadsafe_function_call_js settle);

    // Called on the JavaScript thread, before and after each task. The process stays alive in between. `enter` throws
    // FLUX_CLOSED once the environment has ended.
    void enter(napi_env env, std::atomic<bool> * cancel);
    void settled(napi_env env);

    // Called at the end of a task, on its thread. Passes `task`, unless it is null, to the JavaScript thread. Returns
    // false if that thread is gone.
    bool leave(std::atomic<bool> * cancel, void * task);

    void add(std::weak_ptr<Instance> instance);

    // Cancels and waits for all running calls, and frees all networks. After two seconds it no longer waits for calls
    // that have not stopped, because an RPC server may never answer. It can be called again.
    void shutdown();

    // Like shutdown, for the end of the environment. No task reaches its JavaScript thread afterwards.
    void end();

  private:
    bool wait_until_idle();

    napi_threadsafe_function settle_ = nullptr;  // freed by its JavaScript environment, after end()
    int unsettled_ = 0;                          // tasks; used on the JavaScript thread only
    std::mutex mutex_;
    std::condition_variable idle_;
    std::multiset<std::atomic<bool> *> running_;  // the cancel flags of the tasks
    std::vector<std::weak_ptr<Instance>> instances_;
    bool ended_ = false;  // no task can start
    bool gone_ = false;   // no promise can be settled
};

const std::shared_ptr<Environment> & environment_of(Napi::Env env);

}  // namespace ggflux
