"""The gradient of a sum over coordinates of one polynomial, compiled: Horner's rule with fused multiply-add."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit

from ebmcore_kernels.intrinsics import fma, pointer

F, D, L = np.float32, np.float64, np.int64

TAKEN = 4
"""Coefficients a pass over the block: a loop over coefficients within that over elements would not vectorise."""


def _gradient(number: Any) -> Any:
    """Return what writes the polynomial's value at each of n * d numbers.

    Arguments: the addresses of x, of nothing, and of the result; n, d, the address of the coefficients (float64, the
    highest power first, a multiple of TAKEN), their number.
    """

    @njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def gradient(args):
        words = carray(pointer(args, L(0)), 7)
        count = words[3] * words[4]
        x, y = carray(pointer(words[0], number(0)), count), carray(pointer(words[2], number(0)), count)
        c = carray(pointer(words[5], D(0)), words[6])
        a, b, d, e = number(c[0]), number(c[1]), number(c[2]), number(c[3])
        for i in range(count):
            y[i] = fma(fma(fma(a, x[i], b), x[i], d), x[i], e)
        for k in range(TAKEN, words[6], TAKEN):
            a, b, d, e = number(c[k]), number(c[k + 1]), number(c[k + 2]), number(c[k + 3])
            for i in range(count):
                y[i] = fma(fma(fma(fma(y[i], x[i], a), x[i], b), x[i], d), x[i], e)
        return L(0)

    return gradient


gradient32, gradient64 = _gradient(F), _gradient(D)
