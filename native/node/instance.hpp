#pragma once

#include "networks/loaded-network.hpp"

#include <mutex>

namespace ggflux {

// One network with everything that it owns. Its JavaScript object and the task that uses it share it. Either can be
// destroyed first.
struct Instance {
    std::mutex mutex;  // held while evaluating or freeing
    std::atomic<bool> cancel{false};
    std::atomic<bool> closed{false};
    std::atomic<bool> busy{false};
    std::atomic<double> progress{0};        // of loading, 0 to 1
    std::unique_ptr<LoadedNetwork> loaded;  // null before `load` and after `free`

    // After the device has failed: its driver may end the process when anything on it is freed.
    void abandon() {
        closed = true;
        static_cast<void>(loaded.release());
    }

    // Waits for the running call.
    void free() {
        closed = true;
        const std::lock_guard lock(mutex);
        loaded.reset();
    }

    // Does not wait: if a call is running, the network is freed with the last reference to the instance.
    void free_if_idle() {
        closed = true;
        if (const std::unique_lock lock(mutex, std::try_to_lock); lock) loaded.reset();
    }
};

}  // namespace ggflux
