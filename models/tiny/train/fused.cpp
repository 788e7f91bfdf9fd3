// The transformer's passes over activations, each forward and backward in one sweep; torch runs the matrix products.
// float32 for the residual stream and all sums, bfloat16 for what goes into products. Compiled by fused.py.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using bf16 = uint16_t;
constexpr int D = 128;  // of a head

static inline float up(bf16 x) {
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static inline bf16 down(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<bf16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// the vector exponential gives no number where it would overflow
static inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-(x > -80.0f ? x : -80.0f))); }

constexpr float A = 1.5957691216f, B = 0.0713548162726f;  // gelu(x) = x sigmoid(A x + B x^3), the tanh form

extern "C" {

// y = (1 + scale) norm(x) + shift; x [b, n, h] float, shift and scale [b, h] of stride s, y bfloat16
void modulate_forward(const float * x, const float * shift, const float * scale, bf16 * y, float * mean, float * rstd, int64_t b, int64_t n, int64_t h, int64_t s) {
#pragma omp parallel for
    for (int64_t row = 0; row < b * n; row++) {
        const float * in = x + row * h;
        const float * add = shift + row / n * s, * mul = scale + row / n * s;
        float sum = 0, square = 0;
        for (int64_t i = 0; i < h; i++) sum += in[i];
        const float m = sum / h;
        for (int64_t i = 0; i < h; i++) square += (in[i] - m) * (in[i] - m);
        const float r = 1.0f / std::sqrt(square / h + 1e-6f);
        mean[row] = m, rstd[row] = r;
        for (int64_t i = 0; i < h; i++) y[row * h + i] = down((in[i] - m) * r * (1.0f + mul[i]) + add[i]);
    }
}

// dshift and dscale are [b, h]
void modulate_backward(const bf16 * dy, const float * x, const float * scale, const float * mean, const float * rstd, float * dx, float * dshift, float * dscale,
                       int64_t b, int64_t n, int64_t h, int64_t s) {
#pragma omp parallel for
    for (int64_t batch = 0; batch < b; batch++) {
        float * ds = dshift + batch * h, * dm = dscale + batch * h;
        const float * mul = scale + batch * s;
        for (int64_t i = 0; i < h; i++) ds[i] = dm[i] = 0;
        for (int64_t row = batch * n; row < (batch + 1) * n; row++) {
            const float m = mean[row], r = rstd[row];
            const float * in = x + row * h;
            const bf16 * g = dy + row * h;
            float sum = 0, dot = 0;
            for (int64_t i = 0; i < h; i++) {
                const float grad = up(g[i]), normed = (in[i] - m) * r, inner = grad * (1.0f + mul[i]);
                ds[i] += grad, dm[i] += grad * normed;
                sum += inner, dot += inner * normed;
            }
            sum /= h, dot /= h;
            for (int64_t i = 0; i < h; i++) dx[row * h + i] = r * (up(g[i]) * (1.0f + mul[i]) - sum - (in[i] - m) * r * dot);
        }
    }
}

// z = x + gate y; gate [b, h] of stride s
void gate_forward(const float * x, const bf16 * y, const float * gate, float * z, int64_t b, int64_t n, int64_t h, int64_t s) {
#pragma omp parallel for
    for (int64_t row = 0; row < b * n; row++) {
        const float * mul = gate + row / n * s;
        for (int64_t i = 0; i < h; i++) z[row * h + i] = x[row * h + i] + mul[i] * up(y[row * h + i]);
    }
}

void gate_backward(const float * dz, const bf16 * y, const float * gate, bf16 * dy, float * dgate, int64_t b, int64_t n, int64_t h, int64_t s) {
#pragma omp parallel for
    for (int64_t batch = 0; batch < b; batch++) {
        float * dg = dgate + batch * h;
        const float * mul = gate + batch * s;
        for (int64_t i = 0; i < h; i++) dg[i] = 0;
        for (int64_t row = batch * n; row < (batch + 1) * n; row++) {
            for (int64_t i = 0; i < h; i++) {
                const float grad = dz[row * h + i];
                dy[row * h + i] = down(grad * mul[i]);
                dg[i] += grad * up(y[row * h + i]);
            }
        }
    }
}

void gelu_forward(const bf16 * x, bf16 * y, int64_t rows, int64_t width, int64_t sx, int64_t sy) {
#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < width; i++) {
            const float v = up(x[row * sx + i]);
            y[row * sy + i] = down(v * sigmoid(v * (A + B * v * v)));
        }
    }
}

void gelu_backward(const bf16 * dy, const bf16 * x, bf16 * dx, int64_t rows, int64_t width, int64_t sy, int64_t sx, int64_t sdx) {
#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < width; i++) {
            const float v = up(x[row * sx + i]), g = sigmoid(v * (A + B * v * v));
            dx[row * sdx + i] = down(up(dy[row * sy + i]) * (g + v * g * (1.0f - g) * (A + 3.0f * B * v * v)));
        }
    }
}

// p [b, n, stride] with q, k, v in the first 3 heads D -> q, k normed and turned, v as it is, each [b, heads, n, D]; cos, sin [n, D/2]
void qkv_forward(const bf16 * p, const float * query, const float * key, const float * cos, const float * sin, bf16 * q, bf16 * k, bf16 * v,
                 int64_t b, int64_t n, int64_t heads, int64_t stride) {
#pragma omp parallel for
    for (int64_t row = 0; row < b * n; row++) {
        const int64_t token = row % n;
        for (int64_t head = 0; head < heads; head++) {
            const int64_t out = ((row / n * heads + head) * n + token) * D;
            for (int part = 0; part < 2; part++) {
                const bf16 * in = p + row * stride + (part * heads + head) * D;
                const float * weight = part ? key : query;
                float x[D], square = 0;
                for (int i = 0; i < D; i++) x[i] = up(in[i]), square += x[i] * x[i];
                const float r = 1.0f / std::sqrt(square / D + 1e-6f);
                for (int i = 0; i < D; i++) x[i] *= r * weight[i];
                bf16 * to = (part ? k : q) + out;
                const float * c = cos + token * D / 2, * s = sin + token * D / 2;
                for (int i = 0; i < D / 2; i++) {
                    to[2 * i] = down(x[2 * i] * c[i] - x[2 * i + 1] * s[i]);
                    to[2 * i + 1] = down(x[2 * i + 1] * c[i] + x[2 * i] * s[i]);
                }
            }
            std::memcpy(v + out, p + row * stride + (2 * heads + head) * D, D * sizeof(bf16));
        }
    }
}

// dweight [b, 2, D]: one row for each picture, to be summed
void qkv_backward(const bf16 * dq, const bf16 * dk, const bf16 * dv, const bf16 * p, const float * query, const float * key, const float * cos, const float * sin,
                  bf16 * dp, float * dweight, int64_t b, int64_t n, int64_t heads, int64_t stride) {
#pragma omp parallel for
    for (int64_t batch = 0; batch < b; batch++) {
        float sums[2][D] = {};
        for (int64_t token = 0; token < n; token++) {
            const int64_t row = batch * n + token;
            const float * c = cos + token * D / 2, * s = sin + token * D / 2;
            for (int64_t head = 0; head < heads; head++) {
                const int64_t out = ((batch * heads + head) * n + token) * D;
                for (int part = 0; part < 2; part++) {
                    const bf16 * in = p + row * stride + (part * heads + head) * D, * from = (part ? dk : dq) + out;
                    const float * weight = part ? key : query;
                    float * dw = sums[part];
                    float x[D], g[D], square = 0, dot = 0;
                    for (int i = 0; i < D; i++) x[i] = up(in[i]), square += x[i] * x[i];
                    const float r = 1.0f / std::sqrt(square / D + 1e-6f);
                    float turned[D];
                    for (int i = 0; i < D; i++) turned[i] = up(from[i]);
                    for (int i = 0; i < D / 2; i++) {
                        g[2 * i] = turned[2 * i] * c[i] + turned[2 * i + 1] * s[i];
                        g[2 * i + 1] = turned[2 * i + 1] * c[i] - turned[2 * i] * s[i];
                    }
                    for (int i = 0; i < D; i++) {
                        x[i] *= r;
                        dw[i] += g[i] * x[i];
                        g[i] *= weight[i];
                        dot += g[i] * x[i];
                    }
                    dot /= D;
                    bf16 * to = dp + row * stride + (part * heads + head) * D;
                    for (int i = 0; i < D; i++) to[i] = down(r * (g[i] - x[i] * dot));
                }
                std::memcpy(dp + row * stride + (2 * heads + head) * D, dv + out, D * sizeof(bf16));
            }
        }
        std::memcpy(dweight + batch * 2 * D, sums, sizeof(sums));
    }
}

}
