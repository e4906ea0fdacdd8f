"""Threefry-2x32-20, compiled: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11)."""

from __future__ import annotations

import numpy as np
from numba import njit

from ebmcore_kernels.intrinsics import rotate

U = np.uint32


@njit(inline="always")
def _four(x0, x1, a, b, c, d):
    x0 = U(x0 + x1)
    x1 = U(rotate(x1, U(a)) ^ x0)
    x0 = U(x0 + x1)
    x1 = U(rotate(x1, U(b)) ^ x0)
    x0 = U(x0 + x1)
    x1 = U(rotate(x1, U(c)) ^ x0)
    x0 = U(x0 + x1)
    x1 = U(rotate(x1, U(d)) ^ x0)
    return x0, x1


@njit(inline="always")
def threefry(k0, k1, c0, c1):
    """Return the two words of the counter (c0, c1) under the key (k0, k1), all uint32."""
    k2 = U(U(k0 ^ k1) ^ U(0x1BD11BDA))
    x0, x1 = U(c0 + k0), U(c1 + k1)
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    x0, x1 = U(x0 + k1), U(x1 + U(k2 + U(1)))
    x0, x1 = _four(x0, x1, 17, 29, 16, 24)
    x0, x1 = U(x0 + k2), U(x1 + U(k0 + U(2)))
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    x0, x1 = U(x0 + k0), U(x1 + U(k1 + U(3)))
    x0, x1 = _four(x0, x1, 17, 29, 16, 24)
    x0, x1 = U(x0 + k1), U(x1 + U(k2 + U(4)))
    x0, x1 = _four(x0, x1, 13, 15, 26, 6)
    return U(x0 + k2), U(x1 + U(k0 + U(5)))
