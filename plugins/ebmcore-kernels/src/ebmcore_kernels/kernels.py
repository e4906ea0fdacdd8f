"""The compiled loops: numbers for the elements of chains, and the update that they are fused with.

Numbers are made in blocks that stay in the first cache: one loop over pairs, which vectorises,
then one over elements, which takes care of chains that begin or end within a pair. What `native` loads
takes the address of its arguments, eight bytes each: a call costs half a microsecond, where numpy views would
cost four.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit

from ebmcore_kernels.intrinsics import ROOM, call, fma, pointer, room
from ebmcore_kernels.threefry import threefry
from ebmcore_kernels.variates import normals32, normals64

U, Q, L = np.uint32, np.uint64, np.int64
F, D = np.float32, np.float64

BLOCK = ROOM // 2
"""Pairs of a block: with the positions and the drift beside it, less than 32 KiB in float32."""


@njit
def _normals32(z, k0, k1, low, high, pairs):
    for i in range(pairs):
        w0, w1 = threefry(k0, k1, U(low + U(i)), high)
        z[2 * i], z[2 * i + 1] = normals32(w0, w1)


@njit
def _normals64(z, k0, k1, low, high, pairs):
    for i in range(pairs):
        w0, w1 = threefry(k0, k1, U(low + U(i)), high)
        z[2 * i], z[2 * i + 1] = normals64(w0, w1)


@njit
def _uniforms(z, k0, k1, low, high, pairs):
    for i in range(pairs):
        w0, w1 = threefry(k0, k1, U(low + U(i)), high)
        z[2 * i] = F(F(w0 >> U(8)) * F(2.0**-24))
        z[2 * i + 1] = F(F(w1 >> U(8)) * F(2.0**-24))


@njit
def _run(pair, wanted):
    """Return how many pairs to make from `pair` on: with one high word, so that the counter is of 32 bits."""
    return min(wanted, BLOCK, L(Q(0x100000000) - (pair & Q(0xFFFFFFFF))))


@njit
def _at(address, index, like, width, count):
    """Return the numbers from `index` on as an array: an index that may be negative keeps loops from vectorising."""
    return carray(pointer(L(address) + index * L(width), like), count)


def _updating(number: Any, width: int, normals: Any) -> tuple[Any, Any]:
    """Return two kernels of x <- decay*x + drift_scale*drift + scale*z: for one step, and for several.

    One step, over `count` elements at address `out`. Arguments: out, the address of drift or 0, the number of the
    first element in the run, count, seed (two words), t, call; then in float64 scale, decay, drift_scale.

    Several, of n chains of d elements at address `x`, `rows` chains at a time: so that they stay in the first cache
    for all steps. The drift is what the kernel at the address `gradient` makes of its arguments at the address
    `given`: those of x, of values and of the drift, and how many chains. Arguments: x, n, d, the number of the first
    element, steps, rows, gradient, given, seed (two words), t of the first step, call; then as for one step.
    """

    @njit
    def update(out, other, first, count, k0, k1, scale, decay, drift_scale, block):
        made = _at(block, L(0), number(0), width, ROOM)
        pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
        while done < count:
            pairs = _run(pair, (count - done + skip + 1) // 2)
            normals(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
            n = min(2 * pairs - skip, count - done)
            x, z = _at(out, done, number(0), width, n), _at(block, skip, number(0), width, n)
            if other:
                drift = _at(other, done, number(0), width, n)
                for i in range(n):
                    x[i] = fma(scale, z[i], fma(drift_scale, drift[i], number(decay * x[i])))
            else:
                for i in range(n):
                    x[i] = fma(scale, z[i], number(decay * x[i]))
            pair, skip, done = pair + Q(pairs), L(0), done + n

    @njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def perturb(args):
        words, factors = carray(pointer(args, L(0)), 8), carray(pointer(args + L(64), D(0)), 3)
        scale, decay, drift_scale = number(factors[0]), number(factors[1]), number(factors[2])
        k0, k1 = threefry(U(words[4]), U(words[5]), U(words[6]), U(words[7]))
        update(words[0], words[1], words[2], words[3], k0, k1, scale, decay, drift_scale, room(number(0)))
        return L(0)

    @njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def stride(args):
        words, factors = carray(pointer(args, L(0)), 12), carray(pointer(args + L(96), D(0)), 3)
        x, n, d, first, steps, rows = words[0], words[1], words[2], words[3], words[4], words[5]
        gradient, given = words[6], carray(pointer(words[7], L(0)), 4)
        scale, decay, drift_scale = number(factors[0]), number(factors[1]), number(factors[2])
        block = room(number(0))
        for lo in range(0, n, rows):
            count = min(rows, n - lo)
            out, number_of = x + lo * d * L(width), first + lo * d
            given[0], given[3] = out, count
            for step in range(steps):
                call(gradient, words[7])
                k0, k1 = threefry(U(words[8]), U(words[9]), U(words[10] + step), U(words[11]))
                update(out, given[2], number_of, count * d, k0, k1, scale, decay, drift_scale, block)
        return L(0)

    return perturb, stride


def _filling(number: Any, width: int, normals: Any) -> Any:
    """Return what writes normals, or uniforms, to n rows of d elements at address `out`.

    Arguments: whether normals, out, the address of the chains' ids (int64) or 0 for consecutive ones, the number of
    the first element in the run, n, d, seed (two words), t, call.
    """

    @njit
    def fill(normal, out, first, count, k0, k1):
        block = room(number(0))
        made = _at(block, L(0), number(0), width, ROOM)
        pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
        while done < count:
            pairs = _run(pair, (count - done + skip + 1) // 2)
            if normal:
                normals(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
            else:
                _uniforms(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
            n = min(2 * pairs - skip, count - done)
            x, z = _at(out, done, number(0), width, n), _at(block, skip, number(0), width, n)
            for i in range(n):
                x[i] = z[i]
            pair, skip, done = pair + Q(pairs), L(0), done + n

    @njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def fill_rows(args):
        words = carray(pointer(args, L(0)), 10)
        normal, out, ids, first, n, d = words[0], words[1], words[2], words[3], words[4], words[5]
        k0, k1 = threefry(U(words[6]), U(words[7]), U(words[8]), U(words[9]))
        if ids:
            chains = carray(pointer(ids, L(0)), n)
            for row in range(n):
                fill(normal, out + row * d * L(width), chains[row] * d, d, k0, k1)
        else:
            fill(normal, out, first, n * d, k0, k1)
        return L(0)

    return fill_rows


(perturb32, stride32), (perturb64, stride64) = _updating(F, 4, _normals32), _updating(D, 8, _normals64)
fill32, fill64 = _filling(F, 4, _normals32), _filling(D, 8, _normals64)
