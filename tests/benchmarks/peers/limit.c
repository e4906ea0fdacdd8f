/* The limit: what this CPU can do. One pass over the steps with the positions in registers or the first cache,
 * Threefry-2x32-20 and a polynomial Box-Muller fused with the update, threads over blocks of chains, no framework. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16, TILE = 8 };
#else
enum { LANES = 8, TILE = 4 };
#endif
enum { BLOCK = 2 * LANES, WIDEST = 128 };

typedef float vec __attribute__((vector_size(4 * LANES)));

static inline uint32_t rotate(uint32_t x, int by) { return x << by | x >> (32 - by); }

#define FOUR(a, b, c, d)                                                                                               \
    x0 += x1, x1 = rotate(x1, a) ^ x0, x0 += x1, x1 = rotate(x1, b) ^ x0;                                              \
    x0 += x1, x1 = rotate(x1, c) ^ x0, x0 += x1, x1 = rotate(x1, d) ^ x0

/* Two normals of the pair `c0` at step `c1`. */
static inline __attribute__((always_inline)) void normals(uint32_t seed, uint32_t c0, uint32_t c1, float *a, float *b) {
    const uint32_t k0 = seed, k1 = 0x9E3779B9u, k2 = k0 ^ k1 ^ 0x1BD11BDAu;
    uint32_t x0 = c0 + k0, x1 = c1 + k1;
    FOUR(13, 15, 26, 6);
    x0 += k1, x1 += k2 + 1;
    FOUR(17, 29, 16, 24);
    x0 += k2, x1 += k0 + 2;
    FOUR(13, 15, 26, 6);
    x0 += k0, x1 += k1 + 3;
    FOUR(17, 29, 16, 24);
    x0 += k1, x1 += k2 + 4;
    FOUR(13, 15, 26, 6);
    x0 += k2, x1 += k0 + 5;

    const float u = (float)(int32_t)(x0 >> 8) * 0x1p-24f + 0x1p-25f;
    const float t = (float)(int32_t)(x1 >> 8) * 0x1p-22f + 0x1p-23f; /* four quadrants */
    int32_t bits, e;
    memcpy(&bits, &u, 4);
    e = (bits - 0x3F3504F3) >> 23;
    bits -= (int32_t)((uint32_t)e << 23);
    float f, n = (float)e;
    memcpy(&f, &bits, 4);
    f -= 1.0f;
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float ln = f * f * f * p - 0.5f * f * f + f + n * 0.693147180559945f;
    const float radius = sqrtf(-2.0f * ln);

    const int32_t q = (int32_t)(t + 0.5f);
    const float s = t - (float)q, s2 = s * s;
    const float sine = s * (1.570796326794897f + s2 * (-0.645963460233f + s2 * (0.0796800327669f - 0.00460165788295f * s2)));
    const float cosine =
        1.0f + s2 * (-1.2337005426f + s2 * (0.253669225967f + s2 * (-0.0208601651209f + 0.000903766562817f * s2)));
    const float c = q & 1 ? sine : cosine, d = q & 1 ? cosine : sine;
    *a = (q + 1) & 2 ? -radius * c : radius * c;
    *b = q & 2 ? -radius * d : radius * d;
}

/* Positions [chains, 2] after `steps` of the double well; `chains` is a multiple of 32. */
void double_well(float *out, long chains, long steps, float eps, uint32_t seed) {
    const float scale = sqrtf(2.0f * eps);
#pragma omp parallel for schedule(static)
    for (long lo = 0; lo < chains; lo += BLOCK) {
        float x[BLOCK], y[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            normals(seed, (uint32_t)(lo + i), 0xFFFFFFFFu, &x[i], &y[i]);
        for (long t = 0; t < steps; t++)
#pragma omp simd
            for (int i = 0; i < BLOCK; i++) {
                float a, b;
                normals(seed, (uint32_t)(lo + i), (uint32_t)t, &a, &b);
                x[i] += scale * a - 8.0f * eps * x[i] * (x[i] * x[i] - 1.0f);
                y[i] += scale * b - 8.0f * eps * y[i] * (y[i] * y[i] - 1.0f);
            }
        for (int i = 0; i < BLOCK; i++)
            out[2 * (lo + i)] = x[i], out[2 * (lo + i) + 1] = y[i];
    }
}

/* out[o] = b[o] + sum_i w[o, i] in[i], each a block of chains; the tile of outputs stays in registers. */
static inline void linear(vec (*out)[2], vec (*in)[2], const float *w, const float *b, int outputs, int inputs) {
    int o = 0;
    for (; o + TILE <= outputs; o += TILE) {
        vec sum[TILE][2];
        for (int j = 0; j < TILE; j++)
            sum[j][0] = sum[j][1] = (vec){0} + (b ? b[o + j] : 0.0f);
        for (int i = 0; i < inputs; i++)
#pragma GCC unroll 8
            for (int j = 0; j < TILE; j++) {
                sum[j][0] += w[(o + j) * inputs + i] * in[i][0];
                sum[j][1] += w[(o + j) * inputs + i] * in[i][1];
            }
        for (int j = 0; j < TILE; j++)
            out[o + j][0] = sum[j][0], out[o + j][1] = sum[j][1];
    }
    for (; o < outputs; o++) {
        out[o][0] = out[o][1] = (vec){0} + (b ? b[o] : 0.0f);
        for (int i = 0; i < inputs; i++)
            out[o][0] += w[o * inputs + i] * in[i][0], out[o][1] += w[o * inputs + i] * in[i][1];
    }
}

/* SELU of z in place, and its slope. */
static inline void selu(float *restrict z, float *restrict slope, int count) {
    const float scale = 1.0507009873554805f, alpha = 1.6732632423543772f;
#pragma omp simd
    for (int i = 0; i < count; i++) {
        const float low = z[i] < 0.0f ? (z[i] > -80.0f ? z[i] : -80.0f) : 0.0f;
        const int32_t n = (int32_t)(low * 1.442695041f - 0.5f);
        const float r = low - (float)n * 0.693147180559945f;
        float p = 1.0f / 720.0f;
        p = p * r + 1.0f / 120.0f;
        p = p * r + 1.0f / 24.0f;
        p = p * r + 1.0f / 6.0f;
        p = p * r + 0.5f;
        p = p * r + 1.0f;
        p = p * r + 1.0f;
        int32_t bits;
        memcpy(&bits, &p, 4);
        bits += (int32_t)((uint32_t)n << 23);
        memcpy(&p, &bits, 4);
        slope[i] = z[i] > 0.0f ? scale : scale * alpha * p;
        z[i] = z[i] > 0.0f ? scale * z[i] : scale * alpha * (p - 1.0f);
    }
}

/* Positions [chains, 2] under w3 selu(w2 selu(w1 x + b1) + b2) + |x|^2/2. w1 [h1, 2], w2 [h2, h1], their transposes
 * [2, h1], [h1, h2], w3 [h2]; `chains` is a multiple of 32. */
void mlp(float *out, long chains, long steps, float eps, uint32_t seed, int h1, int h2, const float *w1,
         const float *b1, const float *w2, const float *b2, const float *w3, const float *w1t, const float *w2t) {
    const float scale = sqrtf(2.0f * eps);
#pragma omp parallel for schedule(static)
    for (long lo = 0; lo < chains; lo += BLOCK) {
        vec x[2][2], g[2][2], a1[WIDEST][2], s1[WIDEST][2], a2[WIDEST][2], s2[WIDEST][2];
        float *px = (float *)x[0], *py = (float *)x[1], *gx = (float *)g[0], *gy = (float *)g[1];
        for (int i = 0; i < BLOCK; i++)
            normals(seed, (uint32_t)(lo + i), 0xFFFFFFFFu, &px[i], &py[i]);
        for (long t = 0; t < steps; t++) {
            linear(a1, x, w1, b1, h1, 2);
            selu((float *)a1, (float *)s1, h1 * BLOCK);
            linear(a2, a1, w2, b2, h2, h1);
            selu((float *)a2, (float *)s2, h2 * BLOCK);
            for (int j = 0; j < h2; j++)
                s2[j][0] *= w3[j], s2[j][1] *= w3[j];
            linear(a1, s2, w2t, 0, h1, h2);
            for (int j = 0; j < h1; j++)
                s1[j][0] *= a1[j][0], s1[j][1] *= a1[j][1];
            linear(g, s1, w1t, 0, 2, h1);
#pragma omp simd
            for (int i = 0; i < BLOCK; i++) {
                float a, b;
                normals(seed, (uint32_t)(lo + i), (uint32_t)t, &a, &b);
                px[i] += scale * a - eps * (gx[i] + px[i]);
                py[i] += scale * b - eps * (gy[i] + py[i]);
            }
        }
        for (int i = 0; i < BLOCK; i++)
            out[2 * (lo + i)] = px[i], out[2 * (lo + i) + 1] = py[i];
    }
}
