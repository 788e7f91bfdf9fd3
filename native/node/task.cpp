#include "task.hpp"
#include "marshalling.hpp"

#include <system_error>

namespace ggflux {

namespace {

// The stack is as large as that of libuv's threads: ggml walks graphs recursively, and macOS's default of 512 KiB is
// too small for that.
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
        static_cast<void>(task.release());  // deleted by `finish`, or by its thread
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

void Task::finish(napi_env env, napi_value, void *, void * data) {
    const std::unique_ptr<Task> task(static_cast<Task *>(data));
    pthread_join(task->thread_, nullptr);  // its work is done
    if (!env) return;
    task->environment_->settled(env);
    napi_value global = nullptr;
    bool found = false;
    // Once JavaScript can no longer run, every access to an object fails.
    if (napi_get_global(env, &global) == napi_ok && napi_has_named_property(env, global, "process", &found) == napi_ok)
        task->settle(env);
}

}  // namespace ggflux
