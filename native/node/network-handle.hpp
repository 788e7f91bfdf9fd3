// The JavaScript object for one network.
#pragma once

#include "task.hpp"

namespace ggflux {

class NetworkHandle : public Napi::ObjectWrap<NetworkHandle> {
  public:
    static Napi::Function define(Napi::Env env);
    explicit NetworkHandle(const Napi::CallbackInfo & info);

  private:
    Napi::Value load(const Napi::CallbackInfo & info);
    Napi::Value run(const Napi::CallbackInfo & info);
    Napi::Value measure(const Napi::CallbackInfo & info);
    Napi::Value trim(const Napi::CallbackInfo & info);
    Napi::Value adapt(const Napi::CallbackInfo & info);
    Napi::Value attach(const Napi::CallbackInfo & info);
    Napi::Value close(const Napi::CallbackInfo & info);
    Napi::Value status(const Napi::CallbackInfo & info);
    void cancel(const Napi::CallbackInfo & info);

    // Starts a task with exclusive use of the network. Throws if the network is closed or busy.
    Napi::Value alone(const Napi::CallbackInfo & info, std::function<Task::Finish(Instance &)> work);

    std::shared_ptr<Instance> instance_;       // may outlive the JavaScript object, in a task
    std::shared_ptr<const NetworkSpec> spec_;  // null after `load` was called
    std::string device_;
};

}  // namespace ggflux
