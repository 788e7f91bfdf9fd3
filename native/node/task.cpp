#include "task.hpp"
#include "marshalling.hpp"

namespace ggflux {

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
        task->thread_.start(&Task::run, task.get());
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

Thread::Result Task::run(void * data) {
    auto * task = static_cast<Task *>(data);
    try {
        task->finish_ = task->work_();
    } catch (...) {
        task->failure_ = std::current_exception();
    }
    if (!task->environment_->leave(task->cancel_.get(), task)) {
        task->thread_.detach();
        delete task;
    }
    return {};
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
    task->thread_.join();  // its work is done
    if (!env) return;
    task->environment_->settled(env);
    napi_value global = nullptr;
    bool found = false;
    // Once JavaScript can no longer run, every access to an object fails.
    if (napi_get_global(env, &global) == napi_ok && napi_has_named_property(env, global, "process", &found) == napi_ok)
        task->settle(env);
}

}  // namespace ggflux
