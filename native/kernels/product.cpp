#include "product.hpp"

#if defined(GGFLUX_X86)

#if defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ggflux::kernels::bf16 {

namespace {

// ---- AVX-512: 24 sums stay in registers, for 6 columns and four panels. This takes fewer loads than 12 columns and
// two panels.

constexpr int64_t vector_columns = 6, vector_panels = 4;

template <int panels, int columns> AVX512BF16 inline void multiply(const Product & p, int64_t column) {
    __m512 sum[columns][panels];
    float * y = p.y + column * p.y_stride;
    for (int c = 0; c < columns; c++) {
        for (int i = 0; i < panels; i++) {
            sum[c][i] = p.add    ? _mm512_loadu_ps(y + c * p.y_stride + i * panel_rows)
                        : p.bias ? _mm512_loadu_ps(p.bias + i * panel_rows)
                                 : _mm512_setzero_ps();
        }
    }
    const uint16_t *x = p.x + column * p.x_stride, *panel = p.panel;
    for (int64_t k = 0; k < p.count; k += 2, panel += 2 * panel_rows) {
        __m512bh w[panels];
        for (int i = 0; i < panels; i++)
            w[i] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + i * p.panel_stride));
        for (int c = 0; c < columns; c++) {
            int32_t pair;
            std::memcpy(&pair, x + c * p.x_stride + k, 4);
            const __m512bh both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
            for (int i = 0; i < panels; i++) sum[c][i] = _mm512_dpbf16_ps(sum[c][i], w[i], both);
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int i = 0; i < panels; i++) _mm512_storeu_ps(y + c * p.y_stride + i * panel_rows, sum[c][i]);
    }
}

template <int panels> AVX512BF16 void multiply_columns(const Product & p, int64_t column) {
    for (; column + vector_columns <= p.n; column += vector_columns) multiply<panels, vector_columns>(p, column);
    for (; column + 2 <= p.n; column += 2) multiply<panels, 2>(p, column);
    for (; column < p.n; column++) multiply<panels, 1>(p, column);
}

// columns `column` .. n
void multiply_vectors_from(const Product & p, int64_t rows, int64_t column) {
    int64_t panel = 0;
    for (; panel + vector_panels <= rows / panel_rows; panel += vector_panels)
        multiply_columns<vector_panels>(p.from_panel(panel), column);
    for (; panel < rows / panel_rows; panel++) multiply_columns<1>(p.from_panel(panel), column);
}

void multiply_vectors(Product p, int64_t rows) { multiply_vectors_from(p, rows, 0); }

AVX512BF16 double spin_vectors(int64_t rounds) {
    const __m512bh a = reinterpret_cast<__m512bh>(_mm512_setzero_si512());
    __m512 sums[24];  // in registers if all loops over them are unrolled
#pragma GCC unroll 24
    for (int s = 0; s < 24; s++) sums[s] = _mm512_setzero_ps();
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 24
        for (int s = 0; s < 24; s++) {
            sums[s] = _mm512_dpbf16_ps(sums[s], a, a);
            __asm__ volatile("" : "+v"(sums[s]));  // without this, the compiler removes the loop
        }
    }
    return 24.0 * 64 * static_cast<double>(rounds);
}

// ---- AMX: 2 x 2 tiles of sums, with 16 columns by 16 rows each. A chunk of 32 numbers of a panel is used as a tile in
// place.

#if defined(__linux__)

// The compilers' own functions are not used: they do not declare that memory is read and written. In g++ 12, they
// declare only 8 of the 64 bytes of the configuration.
struct HardwareTiles {
    template <int t> static void zero() { __asm__ volatile("tilezero %%tmm%c0" : : "i"(t)); }
    template <int t> static void load(const void * from, int64_t stride) {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(t) : "memory");
    }
    template <int t> static void store(void * to, int64_t stride) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(t) : "memory");
    }
    template <int sum, int a, int b> static void multiply() {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
    }
};

// The same operations in plain C++, as the instruction is defined. They are used to test the loops below on processors
// without tiles.
struct ModelTiles {
    using Tile = unsigned char[16][64];
    static Tile * tiles() {
        static thread_local Tile all[8];
        return all;
    }
    static float number(uint16_t bits) {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &wide, 4);
        return value;
    }
    template <int t> static void zero() { std::memset(tiles()[t], 0, sizeof(Tile)); }
    template <int t> static void load(const void * from, int64_t stride) {
        for (int row = 0; row < 16; row++)
            std::memcpy(tiles()[t][row], static_cast<const char *>(from) + row * stride, 64);
    }
    template <int t> static void store(void * to, int64_t stride) {
        for (int row = 0; row < 16; row++) std::memcpy(static_cast<char *>(to) + row * stride, tiles()[t][row], 64);
    }
    template <int sum, int a, int b> static void multiply() {
        for (int m = 0; m < 16; m++) {
            float sums[16];
            std::memcpy(sums, tiles()[sum][m], 64);
            for (int k = 0; k < 16; k++) {
                uint16_t left[2], right[32];
                std::memcpy(left, tiles()[a][m] + 4 * k, 4);
                std::memcpy(right, tiles()[b][k], 64);
                for (int n = 0; n < 16; n++)
                    sums[n] += number(left[0]) * number(right[2 * n]) + number(left[1]) * number(right[2 * n + 1]);
            }
            std::memcpy(tiles()[sum][m], sums, 64);
        }
    }
};

// Tiles 0 to 3 hold the sums [columns][panels], tiles 4 and 5 the columns, tiles 6 and 7 the panels.
template <class Tiles, int panels, int columns> void multiply_block(const Product & p, int64_t column) {
    float * y = p.y + column * p.y_stride;
    const int64_t y_bytes = p.y_stride * 4, x_bytes = p.x_stride * 2;
    if (!p.add && p.bias) {
        for (int c = 0; c < 16 * columns; c++)
            std::memcpy(y + c * p.y_stride, p.bias, panels * panel_rows * sizeof(float));
    }
    if (p.add || p.bias) {
        Tiles::template load<0>(y, y_bytes);
        if (panels > 1) Tiles::template load<1>(y + 16, y_bytes);
        if (columns > 1) Tiles::template load<2>(y + 16 * p.y_stride, y_bytes);
        if (panels > 1 && columns > 1) Tiles::template load<3>(y + 16 * p.y_stride + 16, y_bytes);
    } else {
        Tiles::template zero<0>();
        Tiles::template zero<1>();
        Tiles::template zero<2>();
        Tiles::template zero<3>();
    }
    const uint16_t *x = p.x + column * p.x_stride, *panel = p.panel;
    for (int64_t k = 0; k < p.count; k += 32, x += 32, panel += 32 * panel_rows) {
        Tiles::template load<4>(x, x_bytes);
        Tiles::template load<6>(panel, 64);
        Tiles::template multiply<0, 4, 6>();
        if (panels > 1) {
            Tiles::template load<7>(panel + p.panel_stride, 64);
            Tiles::template multiply<1, 4, 7>();
        }
        if (columns > 1) {
            Tiles::template load<5>(x + 16 * p.x_stride, x_bytes);
            Tiles::template multiply<2, 5, 6>();
            if (panels > 1) Tiles::template multiply<3, 5, 7>();
        }
    }
    Tiles::template store<0>(y, y_bytes);
    if (panels > 1) Tiles::template store<1>(y + 16, y_bytes);
    if (columns > 1) Tiles::template store<2>(y + 16 * p.y_stride, y_bytes);
    if (panels > 1 && columns > 1) Tiles::template store<3>(y + 16 * p.y_stride + 16, y_bytes);
}

template <class Tiles, int columns> void multiply_panels(const Product & p, int64_t rows, int64_t column) {
    int64_t panel = 0;
    for (; panel + 2 <= rows / panel_rows; panel += 2) multiply_block<Tiles, 2, columns>(p.from_panel(panel), column);
    for (; panel < rows / panel_rows; panel++) multiply_block<Tiles, 1, columns>(p.from_panel(panel), column);
}

// The panels stay in L2 while the loop runs over the columns.
template <class Tiles> void multiply_tiles(Product p, int64_t rows) {
    int64_t column = 0;
    for (; column + 32 <= p.n; column += 32) multiply_panels<Tiles, 2>(p, rows, column);
    for (; column + 16 <= p.n; column += 16) multiply_panels<Tiles, 1>(p, rows, column);
    if (column < p.n) multiply_vectors_from(p, rows, column);
}

template <class Tiles> double spin_tiles(int64_t rounds) {
    for (int64_t i = 0; i < rounds; i++) {
        Tiles::template multiply<0, 4, 6>();
        Tiles::template multiply<1, 4, 7>();
        Tiles::template multiply<2, 5, 6>();
        Tiles::template multiply<3, 5, 7>();
    }
    return 4.0 * 2 * 16 * 16 * 32 * static_cast<double>(rounds);
}

// Whether the processor has bfloat16 tiles, and the system saves them and lets this process use them.
bool may_use_tiles() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // whether xgetbv is available
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low >> 17 & 3) != 3) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

bool use_tiles() {
    static const bool may = !chosen("avx512") && may_use_tiles();
    return may;
}

struct TileConfiguration {
    unsigned char bytes[64];
};

void load_configuration(const TileConfiguration & configuration) {
    __asm__ volatile("ldtilecfg %0" : : "m"(configuration));
}
void store_configuration(TileConfiguration & configuration) { __asm__ volatile("sttilecfg %0" : "=m"(configuration)); }

// sets all 8 tiles to 16 rows of 64 bytes
TileConfiguration full_tiles() {
    TileConfiguration configuration{};
    configuration.bytes[0] = 1;  // palette
    for (int t = 0; t < 8; t++) {
        configuration.bytes[16 + 2 * t] = 64;
        configuration.bytes[48 + t] = 16;
    }
    return configuration;
}

#endif

}  // namespace

#if defined(__linux__)

bool multiplies_tiles() { return use_tiles(); }

Multiplier::Multiplier()
    : multiply_(chosen("tile-model") ? multiply_tiles<ModelTiles>
                : use_tiles()        ? multiply_tiles<HardwareTiles>
                                     : multiply_vectors),
      spin_(use_tiles() ? spin_tiles<HardwareTiles> : spin_vectors) {
    if (!use_tiles()) return;
    store_configuration(reinterpret_cast<TileConfiguration &>(before_));
    load_configuration(full_tiles());
}

// A configuration of zeros, which is the initial state of a thread, releases the tiles.
Multiplier::~Multiplier() {
    if (use_tiles()) load_configuration(reinterpret_cast<const TileConfiguration &>(before_));
}

#else

bool multiplies_tiles() { return false; }

Multiplier::Multiplier() : multiply_(multiply_vectors), spin_(spin_vectors) {}
Multiplier::~Multiplier() = default;

#endif

}  // namespace ggflux::kernels::bf16

#endif
