#include "network.hpp"
#include "runtime/error.hpp"

#include <cmath>

namespace ggflux {

int64_t Config::get(const std::string & name, int64_t least, int64_t most) const {
    const auto found = values_.find(name);
    if (found == values_.end()) throw Error("FLUX_BAD_OPTION", "the configuration lacks " + name);
    const double value = found->second;
    if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) || value != std::floor(value)) {
        throw Error("FLUX_BAD_OPTION", "config." + name + " is " + std::to_string(value) + ", a whole number from " +
                                           std::to_string(least) + " to " + std::to_string(most) + " is needed");
    }
    return static_cast<int64_t>(value);
}

float Config::real(const std::string & name) const {
    const auto found = values_.find(name);
    if (found == values_.end() || !std::isfinite(found->second))
        throw Error("FLUX_BAD_OPTION", "config." + name + " must be a finite number");
    return static_cast<float>(found->second);
}

int64_t dimension(const Shape & shape, size_t i, int64_t least, int64_t most, const char * name) {
    if (i >= shape.size()) throw Error("FLUX_BAD_SHAPE", std::string(name) + " is missing");
    if (shape[i] < least || shape[i] > most) {
        throw Error("FLUX_BAD_SHAPE", std::string(name) + " is " + std::to_string(shape[i]) + ", " +
                                          std::to_string(least) + " to " + std::to_string(most) + " is possible");
    }
    return shape[i];
}

void bad_mode(const std::string & mode) { throw Error("FLUX_BAD_OPTION", "this network cannot " + mode); }

}  // namespace ggflux
