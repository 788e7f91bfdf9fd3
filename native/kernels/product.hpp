// Products of panels with columns, summed in F32: the loops that linear layers and attention spend their time in. Of bfloat16 on AMX tiles where the
// processor has them and the system lets us, else on AVX-512's BF16 products; of F32 on AVX-512, AVX2 or NEON.
#pragma once

#include "bf16.hpp"

namespace ggflux::kernels {

// y[column][16 p + r] = begin + the sum over k of panel p, row r times x[column]
template <class Number> struct Product {
    const Number * panel;  // the first; the next lies `panel_stride` numbers on
    int64_t panel_stride;
    const Number * x;  // [n, x_stride]
    int64_t x_stride;
    float * y;  // [n, y_stride]
    int64_t y_stride;
    int64_t n, count;    // columns; numbers of k, a multiple of 32
    const float * bias;  // what y begins with: as many numbers as panels have rows, or nothing
    bool add;            // or what is in y already

    Product from_panel(int64_t p) const {
        Product product = *this;
        product.panel += p * panel_stride;
        product.y += p * panel_rows;
        if (bias) product.bias += p * panel_rows;
        return product;
    }
};

namespace f32 {

// A panel: 16 output rows, [k][16 rows].
using Product = kernels::Product<float>;

// Whether this machine and build have the kernel.
bool machine_has_it();

// What one thread multiplies with.
struct Multiplier {
    // `rows` output rows, a multiple of 16
    void operator()(const Product & p, int64_t rows) const;

    // Multiplies what is in registers, `rounds` times; how many operations that were.
    double spin(int64_t rounds) const;
};

// x -> gelu(x), n a multiple of 16
void gelu(const float * x, int64_t n, float * y);

}  // namespace f32

#if defined(GGFLUX_X86)

namespace bf16 {

using Product = kernels::Product<uint16_t>;

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

}  // namespace bf16

#endif

}  // namespace ggflux::kernels
