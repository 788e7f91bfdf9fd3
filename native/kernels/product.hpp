// The product of panels of bfloat16 with columns of bfloat16, summed in F32: the one loop that linear layers and attention spend their time in. On
// AMX tiles where the processor has them and the system lets us, else on AVX-512's BF16 products.
#pragma once

#include "bf16.hpp"

#if defined(GGFLUX_BF16)

namespace ggflux::kernels::bf16 {

// y[column][16 p + r] = begin + the sum over k of panel p, row r times x[column]
struct Product {
    const uint16_t * panel;  // the first; the next lies `panel_stride` numbers on
    int64_t panel_stride;
    const uint16_t * x;      // [n, x_stride]
    int64_t x_stride;
    float * y;               // [n, y_stride]
    int64_t y_stride;
    int64_t n, count;        // columns; numbers of k, a multiple of 32
    const float * bias;      // what y begins with: as many numbers as panels have rows, or nothing
    bool add;                // or what is in y already
};

// Whether it is tiles that multiply.
bool multiplies_tiles();

// What one thread multiplies with. It owns the thread's tile configuration while it lives, and puts back what was there before.
class Multiplier {
  public:
    Multiplier();
    ~Multiplier();
    Multiplier(const Multiplier &) = delete;
    Multiplier & operator=(const Multiplier &) = delete;

    // `rows` output rows, a multiple of 16
    void operator()(const Product & p, int64_t rows) const { multiply_(p, rows); }

    // Multiplies what is in registers, `rounds` times; how many operations that were.
    double spin(int64_t rounds) const { return spin_(rounds); }

  private:
    void (*multiply_)(Product, int64_t rows);
    double (*spin_)(int64_t rounds);
    alignas(64) unsigned char before_[64];  // the tile configuration
};

}  // namespace ggflux::kernels::bf16

#endif
