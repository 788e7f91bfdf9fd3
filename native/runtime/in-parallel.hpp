#pragma once

#include <functional>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace ggflux {

// Calls `work` with 0 on this thread and with 1 to `threads - 1` on other threads, and waits for all of them. The calls
// must share the work dynamically, because the system may provide fewer threads. `work` must not throw.
template <class Work> void in_parallel(int threads, const Work & work) {
    struct Joined : std::vector<std::thread> {
        ~Joined() {
            for (std::thread & thread : *this) thread.join();
        }
    } others;
    try {
        for (int i = 1; i < threads; i++) others.emplace_back(std::cref(work), i);
    } catch (const std::system_error &) {
    } catch (const std::bad_alloc &) {}
    work(0);
}

}  // namespace ggflux
