#include "peak.hpp"

#include "runtime/in-parallel.hpp"
#include "product.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

namespace ggflux::kernels {

namespace {

constexpr double seconds_each = 0.1;

// make(thread) returns the work of a thread. `work()` runs its loop once and returns how much it did. The result is the
// sum of what all threads do per second.
double rate(int threads, const std::atomic<bool> & cancel, const std::function<std::function<double()>(int)> & make) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> rates(threads, 0.0);
    in_parallel(threads, [&](int thread) {
        try {
            const auto work = make(thread);
            work();  // warm-up
            double done = 0, seconds = 0;
            const auto began = Clock::now();
            while (seconds < seconds_each && !cancel.load(std::memory_order_relaxed)) {
                done += work();
                seconds = std::chrono::duration<double>(Clock::now() - began).count();
            }
            rates[thread] = seconds > 0 ? done / seconds : 0;
        } catch (const std::bad_alloc &) {
            // this thread adds nothing to the sum
        }
    });
    return std::accumulate(rates.begin(), rates.end(), 0.0);
}

// Bytes per second. All threads read the same 256 MiB, each in pieces and in a cycle. They start far from each other,
// by the golden ratio. So a piece that one thread has read is out of the caches before another thread reaches it.
double memory_rate(int threads, const std::atomic<bool> & cancel) {
    static constexpr size_t pieces = 256, piece = size_t{1} << 17;  // 1 MiB each
    const std::unique_ptr<uint64_t[]> numbers(new uint64_t[pieces * piece]);
    // Each thread writes some pieces. The first thread that writes a page decides which processor's memory holds it.
    std::atomic<size_t> next{0};
    in_parallel(threads, [&](int) {
        for (size_t i; (i = next++) < pieces;) std::fill_n(numbers.get() + i * piece, piece, uint64_t{1});
    });
    return rate(threads, cancel, [&](int thread) {
        const double begin = thread * 0.6180339887498949;
        return [from = numbers.get(), at = static_cast<size_t>((begin - std::floor(begin)) * pieces)]() mutable {
            uint64_t sums[8] = {};
            for (const uint64_t *p = from + at * piece, *end = p + piece; p < end; p += 8) {
                for (size_t j = 0; j < 8; j++) sums[j] += p[j];
            }
            volatile uint64_t sink = std::accumulate(sums, sums + 8, uint64_t{0});
            (void) sink;
            at = (at + 1) % pieces;
            return static_cast<double>(piece * sizeof(uint64_t));
        };
    });
}

template <class Multiplier> std::function<double()> multiply_registers(int) {
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
        multiply({panels.data(), panel_rows * count, x.data(), count, y.data(), rows, columns, count, nullptr, false},
                 rows);
        return 2.0 * rows * columns * count;
    }
};

template <class Multiplier, class Number> std::function<double()> multiply_cached(int) {
    const auto cached = std::make_shared<Cached<Multiplier, Number>>();
    return [cached] { return cached->run(); };
}

// For machines without a kernel of ours.
std::function<double()> multiply_plainly(int) {
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

Peak measure_peak(int threads, const std::atomic<bool> & cancel) {
    const double memory = memory_rate(threads, cancel);
    const double floats =
        rate(threads, cancel, f32::machine_has_it() ? multiply_registers<f32::Multiplier> : multiply_plainly);
#if defined(GGFLUX_X86)
    if (bf16::machine_has_it()) {
        const char * products = bf16::multiplies_tiles() ? "bf16-tiles" : "bf16";
        const double registers = rate(threads, cancel, multiply_registers<bf16::Multiplier>);
        return {products, registers, rate(threads, cancel, multiply_cached<bf16::Multiplier, uint16_t>), floats,
                memory};
    }
#endif
    return {"f32", floats, f32::machine_has_it() ? rate(threads, cancel, multiply_cached<f32::Multiplier, float>) : 0,
            floats, memory};
}

}  // namespace ggflux::kernels
