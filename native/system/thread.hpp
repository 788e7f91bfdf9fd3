#pragma once

#include <cstddef>
#include <cstdint>

namespace ggflux {

// A thread with a large stack, which std::thread cannot ask for. It has to be joined or detached.
class Thread {
  public:
#ifdef _WIN32
    using Result = unsigned;
#else
    using Result = void *;
#endif
    // Throws std::system_error if the system grants no thread.
    void start(Result (*run)(void *), void * argument);
    void join();
    // called by the thread itself
    void detach();

  private:
    // That of libuv's threads: ggml walks graphs recursively, and macOS's default of 512 KiB is too small for that.
    static constexpr size_t stack_size = size_t{8} << 20;

    uintptr_t handle_ = 0;
};

}  // namespace ggflux
