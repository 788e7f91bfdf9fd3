#include "activations.hpp"
#include "product.hpp"

#include <algorithm>

namespace ggflux::kernels::f32 {

#if defined(__GNUC__)

namespace {

// Without this, the compiler removes loops whose result is unused, or moves sums out of registers.
template <class Vec> __attribute__((always_inline)) inline void keep(Vec & sum) {
#if defined(__aarch64__)
    __asm__ volatile("" : "+w"(sum));
#elif defined(__x86_64__)
    __asm__ volatile("" : "+v"(sum));
#else
    (void) sum;
#endif
}

// The sums of `columns` columns for `panels` panels stay in registers. They are added to y once, which makes long sums
// more accurate.
template <int lanes, int panels, int columns> __attribute__((always_inline)) inline void multiply(const Product & p,
                                                                                                  int64_t column) {
    using Vec = typename Vector<lanes>::type;
    constexpr int vectors = panel_rows / lanes;  // in a panel
    Vec sum[columns][panels][vectors] = {};
    const float *x = p.x + column * p.x_stride, *panel = p.panel;
    for (int64_t k = 0; k < p.count; k++, panel += panel_rows) {
        Vec w[panels][vectors];
        for (int i = 0; i < panels; i++) {
            for (int v = 0; v < vectors; v++)
                w[i][v] = *reinterpret_cast<const Vec *>(panel + i * p.panel_stride + v * lanes);
        }
        for (int c = 0; c < columns; c++) {
            for (int i = 0; i < panels; i++) {
                for (int v = 0; v < vectors; v++) sum[c][i][v] += w[i][v] * x[c * p.x_stride + k];
            }
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int i = 0; i < panels; i++) {
            for (int v = 0; v < vectors; v++) {
                Vec * y = reinterpret_cast<Vec *>(p.y + (column + c) * p.y_stride + i * panel_rows + v * lanes);
                if (p.add) sum[c][i][v] += *y;
                else if (p.bias) sum[c][i][v] += *reinterpret_cast<const Vec *>(p.bias + i * panel_rows + v * lanes);
                *y = sum[c][i][v];
            }
        }
    }
}

template <int lanes, int panels, int columns> __attribute__((always_inline)) inline void
multiply_panels(const Product & p, int64_t rows, int64_t column) {
    int64_t panel = 0;
    for (; panel + panels <= rows / panel_rows; panel += panels)
        multiply<lanes, panels, columns>(p.from_panel(panel), column);
    for (; panel < rows / panel_rows; panel++) multiply<lanes, 1, columns>(p.from_panel(panel), column);
}

// A few columns stay in L1 while the loop runs over the panels, which are in L2.
template <int lanes, int panels, int columns> __attribute__((always_inline)) inline void multiply_all(const Product & p,
                                                                                                      int64_t rows) {
    int64_t column = 0;
    for (; column + columns <= p.n; column += columns) multiply_panels<lanes, panels, columns>(p, rows, column);
    for (; column + columns / 3 <= p.n; column += columns / 3)
        multiply_panels<lanes, panels, columns / 3>(p, rows, column);
    for (; column < p.n; column++) multiply_panels<lanes, panels, 1>(p, rows, column);
}

template <int lanes> __attribute__((always_inline)) inline void gelu_all(const float * x, int64_t n, float * y) {
    using Vec = typename Vector<lanes>::type;
    for (int64_t i = 0; i < n; i += lanes)
        *reinterpret_cast<Vec *>(y + i) = kernels::gelu<lanes>(*reinterpret_cast<const Vec *>(x + i));
}

// `sums`: as many vectors as a product keeps in registers
template <int lanes, int sums> __attribute__((always_inline)) inline double spin_all(int64_t rounds) {
    using Vec = typename Vector<lanes>::type;
    volatile float half = 0.5f;
    const Vec a = Vec{} + half, b = a * half;
    Vec sum[sums] = {};
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 24
        for (int s = 0; s < sums; s++) {
            sum[s] = a * b + sum[s];
            keep(sum[s]);
        }
    }
    return 2.0 * lanes * sums * static_cast<double>(rounds);
}

struct Kernel {
    void (*multiply)(const Product & p, int64_t rows);
    double (*spin)(int64_t rounds);
    void (*gelu)(const float * x, int64_t n, float * y);
};

#if defined(__x86_64__)

__attribute__((target("avx512f,fma"))) void multiply_avx512(const Product & p, int64_t rows) {
    multiply_all<16, 4, 6>(p, rows);
}
__attribute__((target("avx512f,fma"))) double spin_avx512(int64_t rounds) { return spin_all<16, 24>(rounds); }
__attribute__((target("avx512f,fma"))) void gelu_avx512(const float * x, int64_t n, float * y) {
    gelu_all<16>(x, n, y);
}
__attribute__((target("avx2,fma"))) void multiply_avx2(const Product & p, int64_t rows) {
    multiply_all<8, 1, 6>(p, rows);
}
__attribute__((target("avx2,fma"))) double spin_avx2(int64_t rounds) { return spin_all<8, 12>(rounds); }
__attribute__((target("avx2,fma"))) void gelu_avx2(const float * x, int64_t n, float * y) { gelu_all<8>(x, n, y); }

const Kernel * find() {
    static constexpr Kernel avx512{multiply_avx512, spin_avx512, gelu_avx512},
        avx2{multiply_avx2, spin_avx2, gelu_avx2};
    if (chosen("ggml")) return nullptr;
    if (__builtin_cpu_supports("avx512f") && !chosen("avx2")) return &avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2 : nullptr;
}

#elif defined(__aarch64__)

void multiply_neon(const Product & p, int64_t rows) { multiply_all<4, 1, 6>(p, rows); }
double spin_neon(int64_t rounds) { return spin_all<4, 24>(rounds); }
void gelu_neon(const float * x, int64_t n, float * y) { gelu_all<4>(x, n, y); }

const Kernel * find() {
    static constexpr Kernel neon{multiply_neon, spin_neon, gelu_neon};
    return chosen("ggml") ? nullptr : &neon;
}

#else

const Kernel * find() { return nullptr; }

#endif

const Kernel * kernel() {
    static const Kernel * found = find();
    return found;
}

}  // namespace

bool machine_has_it() { return kernel() != nullptr; }
void Multiplier::operator()(const Product & p, int64_t rows) const { kernel()->multiply(p, rows); }
double Multiplier::spin(int64_t rounds) const { return kernel()->spin(rounds); }
void gelu(const float * x, int64_t n, float * y) { kernel()->gelu(x, n, y); }

#else

bool machine_has_it() { return false; }
void Multiplier::operator()(const Product &, int64_t) const {}
double Multiplier::spin(int64_t) const { return 0; }
void gelu(const float *, int64_t, float *) {}

#endif

}  // namespace ggflux::kernels::f32
