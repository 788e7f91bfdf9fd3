// What belongs to one JavaScript environment: the main thread, or a worker thread.
#pragma once

#include "instance.hpp"

#include <napi.h>

#include <condition_variable>
#include <set>

namespace ggflux {

// Outlives its JavaScript environment while a task runs.
class Environment : public std::enable_shared_from_this<Environment> {
  public:
    // `settle` receives on the JavaScript thread what `leave` was given.
    Environment(napi_env env, napi_threadsafe_function_call_js settle);

    // On the JavaScript thread, before and after each task: the process stays alive in between. `enter` throws FLUX_CLOSED once the environment ends.
    void enter(napi_env env, std::atomic<bool> * cancel);
    void settled(napi_env env);

    // On the task's thread, at its end. Passes `task`, unless it is null, to the JavaScript thread; false if that is gone.
    bool leave(std::atomic<bool> * cancel, void * task);

    void add(std::weak_ptr<Instance> instance);

    // Cancels what runs, waits for it, and frees all networks. What has not stopped after two seconds is left behind: an RPC server may never answer.
    // May be called again.
    void shutdown();

    // The same, when the environment ends: no task reaches its JavaScript thread afterwards.
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
