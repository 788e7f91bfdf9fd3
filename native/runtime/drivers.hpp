// The drivers of GPUs, asked directly and not through ggml: what is installed, in which version, and what is missing.
#pragma once

#include <string>
#include <vector>

namespace ggflux {

struct VulkanDevice {
    std::string name;
    std::string kind;    // discrete, integrated, virtual, software, other
    std::string driver;  // name and version
    bool half_storage;   // 16-bit numbers in buffers, which ggml needs
};

struct Drivers {
    bool vulkan = false;  // the loader is installed
    std::vector<VulkanDevice> vulkan_devices;
    bool cuda = false;        // NVIDIA's driver is installed
    int cuda_version = 0;     // the newest version of CUDA that the driver supports: 13000 is 13.0
    std::string cuda_driver;  // version of the driver; empty if it does not say
};

// Whether the libraries that lead to drivers are installed. This runs no driver.
struct DriverLibraries {
    bool vulkan, cuda;
};

Drivers find_drivers();
DriverLibraries find_driver_libraries();

}  // namespace ggflux
