"""The cipher and the normals of two words for Triton: what `threefry` and `variates` are for Numba, step by step.

Every fma is written out, and the kernels are compiled without fusion of their own (`enable_fp_fusion`): a number has
the same bits on every GPU. `tl.sqrt` is an approximation in float32, `tl.sqrt_rn` is not. Sums of words wrap, which
the interpreter takes for a mistake unless told.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _turn(x0, x1, by: tl.constexpr):
    x0 = tl.add(x0, x1, sanitize_overflow=False)
    return x0, ((x1 << by) | (x1 >> (32 - by))) ^ x0


@triton.jit
def _four(x0, x1, a: tl.constexpr, b: tl.constexpr, c: tl.constexpr, d: tl.constexpr):
    x0, x1 = _turn(x0, x1, a)
    x0, x1 = _turn(x0, x1, b)
    x0, x1 = _turn(x0, x1, c)
    return _turn(x0, x1, d)


@triton.jit
def _inject(x0, x1, a, b, group: tl.constexpr):
    b = tl.add(b, group, sanitize_overflow=False)
    return tl.add(x0, a, sanitize_overflow=False), tl.add(x1, b, sanitize_overflow=False)


@triton.jit
def threefry(k0, k1, c0, c1):
    """Return the two words of the counter (c0, c1) under the key (k0, k1), all uint32: Threefry-2x32-20."""
    k2 = k0 ^ k1 ^ 0x1BD11BDA
    x0, x1 = _inject(c0, c1, k0, k1, 0)
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    x0, x1 = _inject(x0, x1, k1, k2, 1)
    x0, x1 = _four(x0, x1, 17, 29, 16, 24)
    x0, x1 = _inject(x0, x1, k2, k0, 2)
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    x0, x1 = _inject(x0, x1, k0, k1, 3)
    x0, x1 = _four(x0, x1, 17, 29, 16, 24)
    x0, x1 = _inject(x0, x1, k1, k2, 4)
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    return _inject(x0, x1, k2, k0, 5)


@triton.jit
def normals32(w0, w1):
    """Return the two float32 normals of two words."""
    u0 = tl.fma(w0.to(tl.float32), 2.0**-32, 2.0**-33)
    u1 = tl.fma(w1.to(tl.float32), 2.0**-32, 2.0**-33)
    radius = tl.sqrt_rn(-2.0 * _log32(u0))
    t = u1 * 4.0
    q = (t + 0.5).to(tl.int32)
    a = t - q.to(tl.float32)
    s = a * a
    p = tl.fma(s, -0.00460165788295, 0.0796800327669)
    p = tl.fma(p, s, -0.645963460233)
    sine = tl.fma(s * a, p, a * 1.570796326794897)
    p = tl.fma(s, 0.000903766562817, -0.0208601651209)
    p = tl.fma(p, s, 0.253669225967)
    p = tl.fma(p, s, -1.2337005426)
    cosine = tl.fma(p, s, 1.0)
    odd = (q & 1) != 0
    c = tl.where(odd, sine, cosine).to(tl.int32, bitcast=True) ^ (((q + 1) & 2) << 30)
    d = tl.where(odd, cosine, sine).to(tl.int32, bitcast=True) ^ ((q & 2) << 30)
    return radius * c.to(tl.float32, bitcast=True), radius * d.to(tl.float32, bitcast=True)


@triton.jit
def _log32(u):
    b = u.to(tl.int32, bitcast=True)
    e = (b - 0x3F3504F3) >> 23
    f = (b - (e << 23)).to(tl.float32, bitcast=True) - 1.0
    n = e.to(tl.float32)
    p = tl.fma(f, 7.0376836292e-2, -1.1514610310e-1)
    p = tl.fma(p, f, 1.1676998740e-1)
    p = tl.fma(p, f, -1.2420140846e-1)
    p = tl.fma(p, f, 1.4249322787e-1)
    p = tl.fma(p, f, -1.6668057665e-1)
    p = tl.fma(p, f, 2.0000714765e-1)
    p = tl.fma(p, f, -2.4999993993e-1)
    p = tl.fma(p, f, 3.3333331174e-1)
    f2 = f * f
    y = (f * f2) * p
    y = tl.fma(n, -2.12194440e-4, y)
    y = tl.fma(f2, -0.5, y)
    return tl.fma(n, 0.693359375, f + y)


@triton.jit
def _d(value: tl.constexpr):
    """Return a constant in float64: a bare number as an argument of `tl.fma` is rounded to float32."""
    return tl.full([], value, tl.float64)


@triton.jit
def normals64(w0, w1):
    """Return the two float64 normals of two words."""
    u0 = tl.fma(w0.to(tl.float64), _d(2.0**-32), _d(2.0**-33))
    u1 = tl.fma(w1.to(tl.float64), _d(2.0**-32), _d(2.0**-33))
    radius = tl.sqrt(_d(-2.0) * _log64(u0))
    t = u1 * _d(4.0)
    q = (t + _d(0.5)).to(tl.int32)
    a = t - q.to(tl.float64)
    s = a * a
    p = tl.fma(s, _d(-6.6274307967121241384e-10), _d(5.691926149228738176e-8))
    p = tl.fma(p, s, _d(-3.5988427112865445934e-6))
    p = tl.fma(p, s, _d(0.00016044118472567163096))
    p = tl.fma(p, s, _d(-0.0046817541353147392887))
    p = tl.fma(p, s, _d(0.079692626246166920811))
    p = tl.fma(p, s, _d(-0.64596409750624625216))
    sine = tl.fma(s * a, p, a * _d(1.5707963267948966192))
    p = tl.fma(s, _d(6.5126569286274573213e-11), _d(-6.3863841262480855884e-9))
    p = tl.fma(p, s, _d(4.710874309263309557e-7))
    p = tl.fma(p, s, _d(-0.000025202042367466738905))
    p = tl.fma(p, s, _d(0.00091926027483907346))
    p = tl.fma(p, s, _d(-0.020863480763352949248))
    p = tl.fma(p, s, _d(0.25366950790104801349))
    p = tl.fma(p, s, _d(-1.2337005501361698274))
    cosine = tl.fma(p, s, _d(1.0))
    odd = (q & 1) != 0
    turn, q = (q + 1).to(tl.int64), q.to(tl.int64)
    c = tl.where(odd, sine, cosine).to(tl.int64, bitcast=True) ^ ((turn & 2) << 62)
    d = tl.where(odd, cosine, sine).to(tl.int64, bitcast=True) ^ ((q & 2) << 62)
    return radius * c.to(tl.float64, bitcast=True), radius * d.to(tl.float64, bitcast=True)


@triton.jit
def _log64(u):
    b = u.to(tl.int64, bitcast=True)
    e = (b - 0x3FE6A09E667F3BCD) >> 52
    f = (b - (e << 52)).to(tl.float64, bitcast=True) - _d(1.0)
    n = e.to(tl.int32).to(tl.float64)
    s = f / (f + _d(2.0))
    z = s * s
    p = tl.fma(z, _d(1.479819860511658591e-01), _d(1.531383769920937332e-01))
    p = tl.fma(p, z, _d(1.818357216161805012e-01))
    p = tl.fma(p, z, _d(2.222219843214978396e-01))
    p = tl.fma(p, z, _d(2.857142874366239149e-01))
    p = tl.fma(p, z, _d(3.999999999940941908e-01))
    p = tl.fma(p, z, _d(6.666666666666735130e-01)) * z
    half = f * _d(0.5) * f
    inner = tl.fma(s, half + p, n * _d(1.90821492927058770002e-10))
    return tl.fma(n, _d(6.93147180369123816490e-01), f - (half - inner))
