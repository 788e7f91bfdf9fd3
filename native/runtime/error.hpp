#pragma once

#include <stdexcept>
#include <string>

namespace ggflux {

// A failure that TypeScript turns into a FluxError. The message starts with the code.
struct Error : std::runtime_error {
    Error(const std::string & code, const std::string & what) : std::runtime_error(code + ": " + what) {}
};

// Thrown at the point where a cancelled call stops.
struct Aborted : std::runtime_error {
    Aborted() : std::runtime_error("FLUX_ABORTED") {}
};

}  // namespace ggflux
