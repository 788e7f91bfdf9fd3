#include "roof.hpp"

#include "product.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

namespace ggflux::kernels {

namespace {

constexpr double seconds_each = 0.1;

// `work()` does its loop once and gives what it did. The sum over threads of what each did in a second.
double rate(int threads, const std::atomic<bool> & cancel, const std::function<std::function<double()>()> & make) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> rates(threads, 0.0);
    const auto measure = [&](int thread) {
        try {
            const auto work = make();
            work();  // warm
            double done = 0, seconds = 0;
            const auto began = Clock::now();
            while (seconds < seconds_each && !cancel.load(std::memory_order_relaxed)) {
                done += work();
                seconds = std::chrono::duration<double>(Clock::now() - began).count();
            }
            rates[thread] = seconds > 0 ? done / seconds : 0;
        } catch (const std::bad_alloc &) {
            // it does nothing, then
        }
    };
    std::vector<std::thread> others;
    try {
        for (int thread = 1; thread < threads; thread++) others.emplace_back(measure, thread);
    } catch (const std::system_error &) {
        // the system gives no more threads
    }
    measure(0);
    for (std::thread & other : others) other.join();
    return std::accumulate(rates.begin(), rates.end(), 0.0);
}

// A quarter of a gibibyte a thread, far more than any cache holds.
std::function<double()> read_memory() {
    const auto numbers = std::make_shared<std::vector<uint64_t>>(size_t{1} << 25, 1);
    return [numbers] {
        uint64_t sums[8] = {};
        for (size_t i = 0; i < numbers->size(); i += 8) {
            for (size_t j = 0; j < 8; j++) sums[j] += (*numbers)[i + j];
        }
        volatile uint64_t sink = std::accumulate(sums, sums + 8, uint64_t{0});
        (void) sink;
        return static_cast<double>(numbers->size() * sizeof(uint64_t));
    };
}

template <class Multiplier> std::function<double()> multiply_registers() {
    const auto multiply = std::make_shared<Multiplier>();
    return [multiply] { return multiply->spin(1 << 14); };
}

// The panels of a linear layer's block, and 48 columns.
template <class Multiplier, class Number> struct Cached {
    static constexpr int64_t rows = 4 * panel_rows, columns = 48, count = 4096 / sizeof(Number);
    std::vector<Number> panels = std::vector<Number>(rows * count), x = std::vector<Number>(columns * count);
    std::vector<float> y = std::vector<float>(rows * columns);
    Multiplier multiply;

    double run() {
        multiply({panels.data(), panel_rows * count, x.data(), count, y.data(), rows, columns, count, nullptr, false}, rows);
        return 2.0 * rows * columns * count;
    }
};

template <class Multiplier, class Number> std::function<double()> multiply_cached() {
    const auto cached = std::make_shared<Cached<Multiplier, Number>>();
    return [cached] { return cached->run(); };
}

// Where no kernel of ours multiplies.
std::function<double()> multiply_plainly() {
    return [] {
        constexpr int64_t rounds = 1 << 15;
        volatile float half = 0.5f, quarter = 0.25f;
        const float a = half, b = quarter;
        float sums[64] = {};
        for (int64_t i = 0; i < rounds; i++) {
            for (float & sum : sums) sum = sum * a + b;
        }
        volatile float sink = std::accumulate(sums, sums + 64, 0.0f);
        (void) sink;
        return 2.0 * 64 * rounds;
    };
}

}  // namespace

Roof measure_roof(int threads, const std::atomic<bool> & cancel) {
    const double memory = rate(threads, cancel, read_memory);
    const double floats = rate(threads, cancel, f32::machine_has_it() ? multiply_registers<f32::Multiplier> : multiply_plainly);
#if defined(GGFLUX_X86)
    if (bf16::machine_has_it()) {
        const char * products = bf16::multiplies_tiles() ? "bf16-tiles" : "bf16";
        const double registers = rate(threads, cancel, multiply_registers<bf16::Multiplier>);
        return {products, registers, rate(threads, cancel, multiply_cached<bf16::Multiplier, uint16_t>), floats, memory};
    }
#endif
    return {"f32", floats, f32::machine_has_it() ? rate(threads, cancel, multiply_cached<f32::Multiplier, float>) : 0, floats, memory};
}

}  // namespace ggflux::kernels
