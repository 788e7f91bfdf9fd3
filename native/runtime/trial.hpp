// Whether a device computes what it should.
#pragma once

#include <string>

namespace ggflux {

// Computes small operations on `device` and on the CPU and compares the results. Returns what is wrong with the device,
// or an empty text. A driver may end the process, or never return: call this in a process of its own.
std::string try_device(const std::string & device);

}  // namespace ggflux
