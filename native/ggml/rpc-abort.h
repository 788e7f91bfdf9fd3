// Forced into ggml's RPC module: errors that would end the process (no server, an invalid answer) throw instead.
#pragma once

#include "ggml.h"

#include <cstdio>
#include <stdexcept>
#include <string>

template <class... Arguments> [[noreturn]] void ggflux_rpc_failed(const char * format, Arguments... arguments) {
    char text[256];
    std::snprintf(text, sizeof(text), format, arguments...);
    throw std::runtime_error("FLUX_DEVICE: the RPC server cannot be used: " + std::string(text));
}

#undef GGML_ABORT
#define GGML_ABORT(...) ggflux_rpc_failed(__VA_ARGS__)
