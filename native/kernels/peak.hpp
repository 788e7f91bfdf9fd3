// Measures the peak performance of this machine. All other speeds are shown as a share of it.
#pragma once

#include <atomic>

namespace ggflux::kernels {

struct Peak {
    const char * products;  // bf16-tiles, bf16, or f32: what the linear layers use here
    // Operations (multiplications and additions) per second, for products with operands in registers.
    double registers;
    // The same with operands from the L2 cache, as in a linear layer. 0 if no kernel of ours runs here.
    double cache;
    double floats;  // operations per second, for F32 products with operands in registers
    double memory;  // bytes per second read from memory
};

// Takes about half a second on all `threads`. Stops early once `cancel` is set; the numbers are then meaningless.
Peak measure_peak(int threads, const std::atomic<bool> & cancel);

}  // namespace ggflux::kernels
