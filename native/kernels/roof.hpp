// What this machine can do at best, measured: what the speed of everything else is a share of.
#pragma once

#include <atomic>

namespace ggflux::kernels {

struct Roof {
    const char * products;  // bf16-tiles, bf16, or f32: what the linear layers multiply with here
    double
        registers;  // operations a second (multiplications and additions) of products whose operands are in registers
    double
        cache;  // of products whose operands come from the second cache, as in a linear layer; 0 where no kernel of ours multiplies
    double floats;  // of products of F32, out of registers
    double memory;  // bytes a second read from memory
};

// Takes about half a second on all `threads`. Stops early, with figures that mean nothing, once `cancel` is set.
Roof measure_roof(int threads, const std::atomic<bool> & cancel);

}  // namespace ggflux::kernels
