#include "marshalling.hpp"

#include <array>
#include <new>
#include <system_error>

namespace ggflux {

namespace {

// A vector with the result of `read` for each item of a list.
template <class Read> auto read_list(const Napi::Value & list, Read read) {
    const auto items = list.As<Napi::Array>();
    std::vector<decltype(read(Napi::Value()))> result;
    for (uint32_t i = 0; i < items.Length(); i++) {
        const Napi::HandleScope scope(list.Env());
        result.push_back(read(items.Get(i)));
    }
    return result;
}

template <class Write, class Item> Napi::Value list_of(Napi::Env env, const std::vector<Item> & items, Write write) {
    const auto list = Napi::Array::New(env, items.size());
    for (size_t i = 0; i < items.size(); i++) list.Set(static_cast<uint32_t>(i), write(items[i]));
    return list;
}

Array read_array(const Napi::Value & value) {
    if (value.IsTypedArray()) {
        const auto type = value.As<Napi::TypedArray>().TypedArrayType();
        if (type == napi_float32_array) {
            const auto typed = value.As<Napi::Float32Array>();
            return std::vector<float>(typed.Data(), typed.Data() + typed.ElementLength());
        }
        if (type == napi_int32_array) {
            const auto typed = value.As<Napi::Int32Array>();
            return std::vector<int32_t>(typed.Data(), typed.Data() + typed.ElementLength());
        }
    }
    throw Error("FLUX_BAD_OPTION", "inputs must be Float32Array or Int32Array");
}

// An integer from `least` to `most`. label: what the number is, for the error message
int64_t read_whole(const Napi::Object & row, const char * key, double least, double most, const std::string & label) {
    const double value = row.Get(key).ToNumber().DoubleValue();
    if (!(value >= least && value <= most)) throw Error("FLUX_BAD_FILE", label + ": " + key + " is out of range");
    return static_cast<int64_t>(value);
}

FactorSpec read_factor(const Napi::Value & value) {
    if (!value.IsObject()) return {};
    const auto factor = value.As<Napi::Object>();
    const auto size = [&](const char * key) { return read_whole(factor, key, 1, 1 << 24, "an adapter"); };
    const bool two = factor.Has("up");
    return {factor.Get("down").ToString(), two ? factor.Get("up").ToString().Utf8Value() : "", size("in"), size("out"),
            two ? size("rank") : 0};
}

AdapterKind read_kind(const std::string & name) {
    constexpr std::array kinds = {"product", "hadamard", "kronecker", "difference", "replacement"};
    const auto found = std::find(kinds.begin(), kinds.end(), name);
    if (found == kinds.end()) throw Error("FLUX_BAD_FILE", "there is no adapter of the kind " + name);
    return static_cast<AdapterKind>(found - kinds.begin());
}

Precision read_precision(const std::string & name) {
    if (name != "auto" && name != "f32" && name != "bf16")
        throw Error("FLUX_BAD_OPTION", "there is no precision called " + name);
    return name == "f32" ? Precision::f32 : name == "bf16" ? Precision::bf16 : Precision::automatic;
}

}  // namespace

std::vector<std::string> read_texts(const Napi::Value & list) {
    return read_list(list, [](const Napi::Value & text) { return text.ToString().Utf8Value(); });
}

Shape read_shape(const Napi::Value & list) {
    return read_list(list, [](const Napi::Value & n) { return n.ToNumber().Int64Value(); });
}

std::vector<Array> read_arrays(const Napi::Value & list) { return read_list(list, read_array); }

TensorEntry read_tensor(const Napi::Value & value) {
    const auto row = value.As<Napi::Object>();
    const int32_t type = row.Get("type").ToNumber().Int32Value();
    if (type < 0 || type >= GGML_TYPE_COUNT)
        throw Error("FLUX_BAD_FILE", "a tensor has the unknown type " + std::to_string(type));
    const std::string name = row.Get("name").ToString(), float8 = row.Get("float8").ToString();  // or "undefined"
    const auto read_piece = [&](const Napi::Value & item) -> Piece {
        const auto piece = item.As<Napi::Object>();
        const auto place = [&](const char * key) {
            return static_cast<size_t>(read_whole(piece, key, 0, 9007199254740991.0, "tensor " + name));
        };
        return {piece.Get("file").ToNumber().Uint32Value(), place("offset"), place("bytes"),
                piece.Get("scale").IsUndefined() ? SIZE_MAX : place("scale")};
    };
    return {name, static_cast<ggml_type>(type), read_shape(row.Get("shape")),
            float8 == "e4m3fn" ? Float8::e4m3fn
            : float8 == "e5m2" ? Float8::e5m2
                               : Float8::none,
            read_list(row.Get("pieces"), read_piece)};
}

std::vector<TensorEntry> read_table(const Napi::Value & rows) { return read_list(rows, read_tensor); }

std::vector<AdapterSpec> read_adapters(const Napi::Value & list) {
    return read_list(list, [](const Napi::Value & value) -> AdapterSpec {
        const auto row = value.As<Napi::Object>();
        const auto count = [&](const char * key, double least) {
            return read_whole(row, key, least, 1 << 24, "an adapter");
        };
        return {row.Get("weight").ToString(),
                read_kind(row.Get("kind").ToString()),
                read_factor(row.Get("left")),
                read_factor(row.Get("right")),
                count("firstRow", 0),
                count("rows", 1),
                row.Get("scale").ToNumber().FloatValue(),
                row.Get("halvesSwapped").ToBoolean()};
    });
}

std::vector<std::variant<size_t, AttachmentSpec>> read_attachments(const Napi::Value & list) {
    using Attachment = std::variant<size_t, AttachmentSpec>;
    return read_list(list, [](const Napi::Value & value) -> Attachment {
        if (value.IsNumber()) return static_cast<size_t>(value.ToNumber().Uint32Value());
        const auto row = value.As<Napi::Object>();
        return AttachmentSpec{row.Get("kind").ToString(), read_texts(row.Get("files")), read_table(row.Get("tensors")),
                              read_numbers(row.Get("config"))};
    });
}

std::map<std::string, double> read_numbers(const Napi::Value & value) {
    const auto object = value.As<Napi::Object>();
    std::map<std::string, double> numbers;
    for (const std::string & name : read_texts(object.GetPropertyNames()))
        numbers[name] = object.Get(name).ToNumber().DoubleValue();
    return numbers;
}

Machine read_machine(const Napi::Value & value) {
    const auto options = value.As<Napi::Object>();
    Machine machine = {options.Get("device").ToString(), read_threads(options.Get("threads")),
                       read_precision(options.Get("precision").ToString())};
    if (const auto bytes = options.Get("deviceMemory"); !bytes.IsUndefined()) machine.device_memory = read_bytes(bytes);
    return machine;
}

size_t read_bytes(const Napi::Value & value) {
    const double bytes = value.ToNumber().DoubleValue();
    if (!(bytes >= 0)) return 0;
    return bytes >= 9e18 ? static_cast<size_t>(9e18) : static_cast<size_t>(bytes);
}

int read_threads(const Napi::Value & value) { return std::min(512, std::max(1, value.ToNumber().Int32Value())); }

Napi::Value evaluation_of(Napi::Env env, const Evaluation & evaluation) {
    const auto result = Napi::Object::New(env);
    result.Set("outputs", list_of(env, evaluation.outputs,
                                  [&](const std::vector<float> & output) { return new_array(env, output); }));
    result.Set("profile", list_of(env, evaluation.profile, [&](const ProfileRow & operation) {
        const auto item = Napi::Object::New(env);
        item.Set("name", operation.name);
        item.Set("type", operation.type);
        item.Set("count", static_cast<double>(operation.count));
        item.Set("ms", operation.seconds * 1e3);
        item.Set("operations", operation.operations);
        item.Set("bytes", operation.bytes);
        return item;
    }));
    return result;
}

std::string message_of(const std::exception_ptr & failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const std::bad_alloc &) {
        return "FLUX_OUT_OF_MEMORY: memory ran out; choose a smaller image or model, or free memory";
    } catch (const std::system_error & error) {
        return std::string("FLUX_DEVICE: the system gives no further thread (") + error.what() +
               "); raise the limit of threads (ulimit -u, docker --pids-limit, systemd's TasksMax), or set `threads` "
               "lower";
    } catch (const std::exception & error) {
        return error.what();
    } catch (...) {
        return "FLUX_DEVICE: the native part failed for an unknown reason";
    }
}

}  // namespace ggflux
