// Products of panels with columns, summed in F32. Linear layers and attention spend most of their time in these loops.
// bfloat16 uses AMX tiles if the processor has them and the system allows them, otherwise AVX-512's BF16 products. F32
// uses AVX-512, AVX2 or NEON.
#pragma once

#include "bf16.hpp"

namespace ggflux::kernels {

// y[column][16 p + r] = initial value + the sum over k of panel p, row r times x[column]
template <class Number> struct Product {
    const Number * panel;  // the first panel; the next one starts `panel_stride` numbers later
    int64_t panel_stride;
    const Number * x;  // [n, x_stride]
    int64_t x_stride;
    float * y;  // [n, y_stride]
    int64_t y_stride;
    int64_t n, count;    // columns; numbers of k, a multiple of 32
    const float * bias;  // initial values of y, one for each row of the panels, or null
    bool add;            // or adds to the values of y

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

// Whether this machine and this build have the kernel.
bool machine_has_it();

// Multiplies on one thread.
struct Multiplier {
    // `rows` output rows, a multiple of 16
    void operator()(const Product & p, int64_t rows) const;

    // Multiplies registers `rounds` times. Returns the number of operations.
    double spin(int64_t rounds) const;
};

// x -> gelu(x), n a multiple of 16
void gelu(const float * x, int64_t n, float * y);

}  // namespace f32

#if defined(GGFLUX_X86)

namespace bf16 {

using Product = kernels::Product<uint16_t>;

// Whether the products use AMX tiles.
bool multiplies_tiles();

// Multiplies on one thread. It sets the tile configuration of the thread, and its destructor restores the previous one.
class Multiplier {
  public:
    Multiplier();
    ~Multiplier();
    Multiplier(const Multiplier &) = delete;
    Multiplier & operator=(const Multiplier &) = delete;

    // `rows` output rows, a multiple of 16
    void operator()(const Product & p, int64_t rows) const { multiply_(p, rows); }

    // Multiplies registers `rounds` times. Returns the number of operations.
    double spin(int64_t rounds) const { return spin_(rounds); }

  private:
    void (*multiply_)(Product, int64_t rows);
    double (*spin_)(int64_t rounds);
    alignas(64) unsigned char before_[64];  // the previous tile configuration
};

}  // namespace bf16

#endif

}  // namespace ggflux::kernels
