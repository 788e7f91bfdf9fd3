// Conversion between JavaScript values and C++ values. Values that are read are copied.
#pragma once

#include "networks/loaded-network.hpp"
#include "runtime/error.hpp"

#include <napi.h>

#include <algorithm>
#include <exception>

namespace ggflux {

std::vector<std::string> read_texts(const Napi::Value & list);
Shape read_shape(const Napi::Value & list);
std::vector<Array> read_arrays(const Napi::Value & list);
TensorEntry read_tensor(const Napi::Value & row);
std::vector<TensorEntry> read_table(const Napi::Value & rows);
std::vector<AdapterSpec> read_adapters(const Napi::Value & list);
// { kind, files, tensors, config }, or the index of an attachment
std::vector<std::variant<size_t, AttachmentSpec>> read_attachments(const Napi::Value & list);
std::map<std::string, double> read_numbers(const Napi::Value & object);
Machine read_machine(const Napi::Value & options);
size_t read_bytes(const Napi::Value & value);
int read_threads(const Napi::Value & value);

Napi::Value evaluation_of(Napi::Env env, const Evaluation & evaluation);

// A copy as a Float32Array or Uint8Array. It is created by the JavaScript class's constructor, which throws a
// RangeError if there is not enough memory. Node-API's own function would end the process.
template <class Number> Napi::Value new_array(Napi::Env env, const std::vector<Number> & values) {
    const auto type = env.Global().Get(sizeof(Number) == 1 ? "Uint8Array" : "Float32Array").As<Napi::Function>();
    const Napi::Object array = type.New({Napi::Number::New(env, static_cast<double>(values.size()))});
    auto typed = array.As<Napi::TypedArrayOf<Number>>();
    if (typed.ElementLength() != values.size())
        throw Error("FLUX_OUT_OF_MEMORY", "an array of " + std::to_string(values.size()) + " numbers cannot be made");
    std::copy(values.begin(), values.end(), typed.Data());
    return array;
}

// The message of an Error. For other exceptions, a message that starts with a code.
std::string message_of(const std::exception_ptr & failure);

// Turns C++ exceptions in synchronous calls into JavaScript errors with the same message.
template <class Function> auto guard(Napi::Env env, Function function) {
    try {
        return function();
    } catch (const Napi::Error &) {
        throw;
    } catch (...) {
        throw Napi::Error::New(env, message_of(std::current_exception()));
    }
}

}  // namespace ggflux
