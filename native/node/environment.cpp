#include "environment.hpp"
#include "runtime/error.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

namespace ggflux {

namespace {

// An evaluation stops within tenths of a second. A call to a server that no longer answers never stops.
constexpr std::chrono::seconds patience{2};

}  // namespace

const std::shared_ptr<Environment> & environment_of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
}

Environment::Environment(napi_env env, napi_threadsafe_function_call_js settle) {
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

bool Environment::leave(std::atomic<bool> * cancel, void * task) {
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
    // On a thread of its own: freeing memory on an RPC server waits for earlier calls, and the server may never answer
    // them.
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

}  // namespace ggflux
