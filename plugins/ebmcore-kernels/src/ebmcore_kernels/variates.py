"""Two normals of two words, compiled, in float32 and float64: polynomials, explicit fma, no fast-math.

Without fast-math and with every fma written out, LLVM's vector body and scalar tail compute the
same bits, on any CPU with hardware fma. Box-Muller, with u = word * 2**-32 + 2**-33:

    ln u = e ln 2 + ln m, m in [sqrt(1/2), sqrt(2)); the polynomial of Cephes' logf, or fdlibm's log
    cos 2 pi u, sin 2 pi u by quadrant: a = 4 u - round(4 u) is exact, and cos, sin of pi a / 2 on
    |a| <= 1/2 are minimax polynomials in a**2 (relative error below 4e-9 and 3e-18)
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ebmcore_kernels.intrinsics import bits, fma, from_bits, sqrt

F, N = np.float32, np.int32
D, L = np.float64, np.int64


@njit(inline="always")
def normals32(w0, w1):
    """Return the two float32 normals of two words."""
    u0 = fma(F(w0), F(2.0**-32), F(2.0**-33))
    u1 = fma(F(w1), F(2.0**-32), F(2.0**-33))
    radius = sqrt(F(F(-2) * _log32(u0)))
    t = F(u1 * F(4))
    q = N(F(t + F(0.5)))
    a = F(t - F(q))
    s = F(a * a)
    p = fma(F(-0.00460165788295), s, F(0.0796800327669))
    p = fma(p, s, F(-0.645963460233))
    sine = fma(F(s * a), p, F(a * F(1.570796326794897)))
    p = fma(F(0.000903766562817), s, F(-0.0208601651209))
    p = fma(p, s, F(0.253669225967))
    p = fma(p, s, F(-1.2337005426))
    cosine = fma(p, s, F(1))
    odd = N(q & N(1)) != N(0)
    c = sine if odd else cosine
    d = cosine if odd else sine
    c = from_bits(N(bits(c) ^ N(N(N(q + N(1)) & N(2)) << N(30))), F(0))
    d = from_bits(N(bits(d) ^ N(N(q & N(2)) << N(30))), F(0))
    return F(radius * c), F(radius * d)


@njit(inline="always")
def _log32(u):
    b = bits(u)
    e = N(N(b - N(0x3F3504F3)) >> N(23))
    f = F(from_bits(N(b - N(e << N(23))), F(0)) - F(1))
    n = F(e)
    p = fma(F(7.0376836292e-2), f, F(-1.1514610310e-1))
    p = fma(p, f, F(1.1676998740e-1))
    p = fma(p, f, F(-1.2420140846e-1))
    p = fma(p, f, F(1.4249322787e-1))
    p = fma(p, f, F(-1.6668057665e-1))
    p = fma(p, f, F(2.0000714765e-1))
    p = fma(p, f, F(-2.4999993993e-1))
    p = fma(p, f, F(3.3333331174e-1))
    f2 = F(f * f)
    y = F(F(f * f2) * p)
    y = fma(n, F(-2.12194440e-4), y)
    y = fma(F(-0.5), f2, y)
    return fma(n, F(0.693359375), F(f + y))


@njit(inline="always")
def normals64(w0, w1):
    """Return the two float64 normals of two words."""
    u0 = fma(D(w0), D(2.0**-32), D(2.0**-33))
    u1 = fma(D(w1), D(2.0**-32), D(2.0**-33))
    radius = sqrt(D(-2) * _log64(u0))
    t = u1 * D(4)
    q = N(t + D(0.5))
    a = t - D(q)
    s = a * a
    p = fma(D(-6.6274307967121241384e-10), s, D(5.691926149228738176e-8))
    p = fma(p, s, D(-3.5988427112865445934e-6))
    p = fma(p, s, D(0.00016044118472567163096))
    p = fma(p, s, D(-0.0046817541353147392887))
    p = fma(p, s, D(0.079692626246166920811))
    p = fma(p, s, D(-0.64596409750624625216))
    sine = fma(s * a, p, a * D(1.5707963267948966192))
    p = fma(D(6.5126569286274573213e-11), s, D(-6.3863841262480855884e-9))
    p = fma(p, s, D(4.710874309263309557e-7))
    p = fma(p, s, D(-0.000025202042367466738905))
    p = fma(p, s, D(0.00091926027483907346))
    p = fma(p, s, D(-0.020863480763352949248))
    p = fma(p, s, D(0.25366950790104801349))
    p = fma(p, s, D(-1.2337005501361698274))
    cosine = fma(p, s, D(1))
    odd = N(q & N(1)) != N(0)
    c = sine if odd else cosine
    d = cosine if odd else sine
    c = from_bits(L(bits(c) ^ (L(N(N(q + N(1)) & N(2))) << L(62))), D(0))
    d = from_bits(L(bits(d) ^ (L(N(q & N(2))) << L(62))), D(0))
    return radius * c, radius * d


@njit(inline="always")
def _log64(u):
    b = bits(u)
    e = (b - L(0x3FE6A09E667F3BCD)) >> L(52)
    f = from_bits(L(b - (e << L(52))), D(0)) - D(1)
    n = D(N(e))
    s = f / (D(2) + f)
    z = s * s
    p = fma(D(1.479819860511658591e-01), z, D(1.531383769920937332e-01))
    p = fma(p, z, D(1.818357216161805012e-01))
    p = fma(p, z, D(2.222219843214978396e-01))
    p = fma(p, z, D(2.857142874366239149e-01))
    p = fma(p, z, D(3.999999999940941908e-01))
    p = fma(p, z, D(6.666666666666735130e-01)) * z
    half = D(0.5) * f * f
    inner = fma(s, half + p, n * D(1.90821492927058770002e-10))
    return fma(n, D(6.93147180369123816490e-01), f - (half - inner))
