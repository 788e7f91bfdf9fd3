// The only way to run asynchronous work.
#pragma once

#include "environment.hpp"
#include "system/thread.hpp"

#include <exception>

namespace ggflux {

// Work that has its own thread, and a promise that is settled on the JavaScript thread. It does not use libuv's pool:
// the pool's four threads serve the host's files and DNS. `work` may throw, and must not access JavaScript. It returns
// a function that creates the result on the JavaScript thread. `turn` is released when the promise is settled.
class Task {
  public:
    using Finish = std::function<Napi::Value(Napi::Env)>;
    // Each failure rejects the promise. `cancel` is set when the environment ends.
    static Napi::Promise start(Napi::Env env, std::shared_ptr<std::atomic<bool>> cancel, std::function<Finish()> work,
                               std::shared_ptr<void> turn = nullptr);

    // For Environment: settles the promise of a finished task, and deletes the task. `env` is null if the environment
    // ended before.
    static void finish(napi_env env, napi_value, void *, void * task);

  private:
    static Thread::Result run(void * task);
    void settle(napi_env env);

    napi_deferred deferred_ = nullptr;
    std::shared_ptr<Environment> environment_;
    std::shared_ptr<std::atomic<bool>> cancel_;
    std::shared_ptr<void> turn_;
    std::function<Finish()> work_;
    Finish finish_;
    std::exception_ptr failure_;
    Thread thread_;
};

}  // namespace ggflux
