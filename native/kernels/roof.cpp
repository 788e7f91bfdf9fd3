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

#if defined(__x86_64__) && !defined(_MSC_VER)
#include <immintrin.h>
#endif

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

#if defined(GGFLUX_BF16)

std::function<double()> multiply_registers() {
    const auto multiply = std::make_shared<bf16::Multiplier>();
    return [multiply] { return multiply->spin(1 << 14); };
}

// The panels of a linear layer's block, and 48 columns.
std::function<double()> multiply_cached() {
    constexpr int64_t rows = 4 * bf16::panel_rows, columns = 48, count = 2048;
    struct Data {
        std::vector<uint16_t> panels = std::vector<uint16_t>(rows * count), x = std::vector<uint16_t>(columns * count);
        std::vector<float> y = std::vector<float>(rows * columns);
        bf16::Multiplier multiply;
    };
    const auto data = std::make_shared<Data>();
    return [data] {
        data->multiply({data->panels.data(), bf16::panel_rows * count, data->x.data(), count, data->y.data(), rows, columns, count, nullptr, false}, rows);
        return 2.0 * rows * columns * count;
    };
}

#endif

#if defined(__x86_64__) && !defined(_MSC_VER)

__attribute__((target("avx2,fma"))) double multiply_f32_avx2() {
    constexpr int64_t rounds = 1 << 15;
    __m256 sums[10], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
#pragma GCC unroll 10
    for (int s = 0; s < 10; s++) sums[s] = _mm256_setzero_ps();
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 10
        for (int s = 0; s < 10; s++) {
            sums[s] = _mm256_fmadd_ps(a, b, sums[s]);
            __asm__ volatile("" : "+x"(sums[s]));
        }
    }
    return 2.0 * 8 * 10 * rounds;
}

#endif

double multiply_f32() {
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
}

std::function<double()> multiply_floats() {
#if defined(__x86_64__) && !defined(_MSC_VER)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return multiply_f32_avx2;
#endif
    return multiply_f32;
}

}  // namespace

Roof measure_roof(int threads, const std::atomic<bool> & cancel) {
    const double memory = rate(threads, cancel, read_memory);
#if defined(GGFLUX_BF16)
    if (bf16::machine_has_it()) {
        const char * products = bf16::multiplies_tiles() ? "bf16-tiles" : "bf16";
        return {products, rate(threads, cancel, multiply_registers), rate(threads, cancel, multiply_cached), memory};
    }
#endif
    return {"f32", rate(threads, cancel, multiply_floats), 0, memory};
}

}  // namespace ggflux::kernels
