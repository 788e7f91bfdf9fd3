#include "drivers.hpp"

#include <cstdint>
#include <cstring>
#include <initializer_list>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ggflux {

namespace {

// A library of the system that may be missing. It stays loaded: drivers do not always survive being unloaded.
class Library {
  public:
    explicit Library(std::initializer_list<const char *> names) {
        for (const char * name : names) {
            if (handle_) return;
#ifdef _WIN32
            handle_ = reinterpret_cast<void *>(LoadLibraryExA(name, nullptr, LOAD_LIBRARY_SEARCH_SYSTEM32));
#else
            handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
#endif
        }
    }
    explicit operator bool() const { return handle_ != nullptr; }
    template <class Function> Function get(const char * name) const {
        if (!handle_) return nullptr;
#ifdef _WIN32
        return reinterpret_cast<Function>(
            reinterpret_cast<void *>(GetProcAddress(static_cast<HMODULE>(handle_), name)));
#else
        return reinterpret_cast<Function>(dlsym(handle_, name));
#endif
    }

  private:
    void * handle_ = nullptr;
};

const Library & vulkan_loader() {
    static const Library library{"libvulkan.so.1", "vulkan-1.dll", "libvulkan.1.dylib"};
    return library;
}

const Library & cuda_library() {
    static const Library library{"libcuda.so.1", "nvcuda.dll"};
    return library;
}

// ---- Vulkan: the few structures of its interface that are needed, so that its headers are not ----

#ifdef _WIN32
#define GGFLUX_VULKAN __stdcall
#else
#define GGFLUX_VULKAN
#endif

namespace vulkan {

using Instance = struct InstanceHandle *;
using PhysicalDevice = struct PhysicalDeviceHandle *;

constexpr uint32_t application_info = 0, instance_create_info = 1;
constexpr uint32_t physical_device_features2 = 1000059000, physical_device_properties2 = 1000059001;
constexpr uint32_t physical_device_16bit_storage_features = 1000083000, physical_device_driver_properties = 1000196000;
constexpr uint32_t version_1_2 = (1u << 22) | (2u << 12);
constexpr uint32_t portability_enumeration = 1;  // devices such as MoltenVK's

struct ApplicationInfo {
    uint32_t type;
    const void * next;
    const char * application;
    uint32_t application_version;
    const char * engine;
    uint32_t engine_version, api_version;
};

struct InstanceCreateInfo {
    uint32_t type;
    const void * next;
    uint32_t flags;
    const ApplicationInfo * application;
    uint32_t layer_count;
    const char * const * layers;
    uint32_t extension_count;
    const char * const * extensions;
};

struct PhysicalDeviceProperties2 {
    uint32_t type;
    void * next;
    uint32_t api_version, driver_version, vendor, device, device_type;
    char name[256];
    uint64_t rest[128];  // the identifier, limits and sparse properties: 560 bytes in Vulkan 1.4
};

struct DriverProperties {
    uint32_t type;
    void * next;
    uint32_t id;
    char name[256], info[256];
    uint8_t conformance[4];
};

struct Features2 {
    uint32_t type;
    void * next;
    uint32_t features[64];  // 55 in Vulkan 1.4
};

struct HalfStorageFeatures {
    uint32_t type;
    void * next;
    uint32_t buffers, uniform_and_buffers, push_constants, input_output;
};

using GetInstanceProcAddr = void *(GGFLUX_VULKAN *) (Instance, const char *);
using CreateInstance = int32_t(GGFLUX_VULKAN *)(const InstanceCreateInfo *, const void *, Instance *);
using DestroyInstance = void(GGFLUX_VULKAN *)(Instance, const void *);
using EnumeratePhysicalDevices = int32_t(GGFLUX_VULKAN *)(Instance, uint32_t *, PhysicalDevice *);
using GetProperties2 = void(GGFLUX_VULKAN *)(PhysicalDevice, PhysicalDeviceProperties2 *);
using GetFeatures2 = void(GGFLUX_VULKAN *)(PhysicalDevice, Features2 *);

VulkanDevice describe(PhysicalDevice device, GetProperties2 get_properties, GetFeatures2 get_features) {
    DriverProperties driver{};
    driver.type = physical_device_driver_properties;
    PhysicalDeviceProperties2 properties{};
    properties.type = physical_device_properties2;
    properties.next = &driver;
    get_properties(device, &properties);
    HalfStorageFeatures storage{};
    storage.type = physical_device_16bit_storage_features;
    Features2 features{};
    features.type = physical_device_features2;
    features.next = &storage;
    get_features(device, &features);
    constexpr const char * kinds[] = {"other", "integrated", "discrete", "virtual", "software"};
    const auto text = [](const char * from, size_t size) { return std::string(from, strnlen(from, size)); };
    std::string version = text(driver.info, sizeof(driver.info));
    if (version.empty()) version = std::to_string(properties.driver_version);
    return {text(properties.name, sizeof(properties.name)),
            properties.device_type < 5 ? kinds[properties.device_type] : "other",
            text(driver.name, sizeof(driver.name)) + " " + version, storage.buffers != 0};
}

void find(Drivers & drivers) {
    const auto get = vulkan_loader().get<GetInstanceProcAddr>("vkGetInstanceProcAddr");
    if (!get) return;
    drivers.vulkan = true;
    const auto create = reinterpret_cast<CreateInstance>(get(nullptr, "vkCreateInstance"));
    ApplicationInfo application{};
    application.type = application_info;
    application.application = "ggflux";
    application.api_version = version_1_2;  // what ggml asks for
    InstanceCreateInfo info{};
    info.type = instance_create_info;
    info.application = &application;
#ifdef __APPLE__
    const char * extension = "VK_KHR_portability_enumeration";
    info.flags = portability_enumeration;
    info.extension_count = 1;
    info.extensions = &extension;
#endif
    Instance instance = nullptr;
    if (!create || create(&info, nullptr, &instance) != 0) return;  // no driver
    const auto enumerate = reinterpret_cast<EnumeratePhysicalDevices>(get(instance, "vkEnumeratePhysicalDevices"));
    const auto properties = reinterpret_cast<GetProperties2>(get(instance, "vkGetPhysicalDeviceProperties2"));
    const auto features = reinterpret_cast<GetFeatures2>(get(instance, "vkGetPhysicalDeviceFeatures2"));
    uint32_t count = 0;
    if (enumerate && properties && features && enumerate(instance, &count, nullptr) == 0 && count > 0) {
        std::vector<PhysicalDevice> devices(count);
        if (enumerate(instance, &count, devices.data()) >= 0)
            for (uint32_t i = 0; i < count; i++)
                drivers.vulkan_devices.push_back(describe(devices[i], properties, features));
    }
    const auto destroy = reinterpret_cast<DestroyInstance>(get(instance, "vkDestroyInstance"));
    if (destroy) destroy(instance, nullptr);
}

}  // namespace vulkan

// ---- CUDA ----

void find_cuda(Drivers & drivers) {
    const auto version = cuda_library().get<int (*)(int *)>("cuDriverGetVersion");
    if (!version) return;
    drivers.cuda = true;
    version(&drivers.cuda_version);
    static const Library management{"libnvidia-ml.so.1", "nvml.dll"};
    const auto init = management.get<int (*)()>("nvmlInit_v2");
    const auto driver_version = management.get<int (*)(char *, unsigned)>("nvmlSystemGetDriverVersion");
    const auto shutdown = management.get<int (*)()>("nvmlShutdown");
    char text[96] = "";
    if (!init || !driver_version || !shutdown || init() != 0) return;
    if (driver_version(text, sizeof(text) - 1) == 0) drivers.cuda_driver = text;
    shutdown();
}

}  // namespace

Drivers find_drivers() {
    Drivers drivers;
    vulkan::find(drivers);
    find_cuda(drivers);
    return drivers;
}

DriverLibraries find_driver_libraries() { return {bool(vulkan_loader()), bool(cuda_library())}; }

}  // namespace ggflux
