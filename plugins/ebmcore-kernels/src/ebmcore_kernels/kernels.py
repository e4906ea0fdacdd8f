"""The compiled loops: numbers for the elements of chains, and the update that they are fused with.

Numbers are made in blocks that stay in the first cache: one loop over pairs, which vectorises,
then one over elements, which takes care of chains that begin or end within a pair. Arguments
are addresses and plain numbers: a call costs about a microsecond, where numpy views would cost four.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ebmcore_kernels.intrinsics import fma, pointer
from ebmcore_kernels.threefry import threefry
from ebmcore_kernels.variates import normals32, normals64

U, Q, L = np.uint32, np.uint64, np.int64
F, D = np.float32, np.float64

BLOCK = 1024
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


@njit(nogil=True, cache=True)
def perturb32(out, other, first, count, seed0, seed1, t, call, scale, decay, drift_scale):
    """Set x <- decay*x + drift_scale*drift + scale*z for `count` float32 elements at address `out`.

    `other` is the address of drift, or 0 for none; `first` is the number of the first element in the run.
    """
    scale, decay, drift_scale = F(scale), F(decay), F(drift_scale)
    k0, k1 = threefry(U(seed0), U(seed1), U(t), U(call))
    made = np.empty(2 * BLOCK, F)
    pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
    while done < count:
        pairs = _run(pair, (count - done + skip + 1) // 2)
        _normals32(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        n = min(2 * pairs - skip, count - done)
        x, z = _at(out, done, F(0), 4, n), _at(made.ctypes.data, skip, F(0), 4, n)
        if other:
            drift = _at(other, done, F(0), 4, n)
            for i in range(n):
                x[i] = fma(scale, z[i], fma(drift_scale, drift[i], F(decay * x[i])))
        else:
            for i in range(n):
                x[i] = fma(scale, z[i], F(decay * x[i]))
        pair, skip, done = pair + Q(pairs), L(0), done + n


@njit(nogil=True, cache=True)
def perturb64(out, other, first, count, seed0, seed1, t, call, scale, decay, drift_scale):
    """As `perturb32` in float64."""
    scale, decay, drift_scale = D(scale), D(decay), D(drift_scale)
    k0, k1 = threefry(U(seed0), U(seed1), U(t), U(call))
    made = np.empty(2 * BLOCK, D)
    pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
    while done < count:
        pairs = _run(pair, (count - done + skip + 1) // 2)
        _normals64(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        n = min(2 * pairs - skip, count - done)
        x, z = _at(out, done, D(0), 8, n), _at(made.ctypes.data, skip, D(0), 8, n)
        if other:
            drift = _at(other, done, D(0), 8, n)
            for i in range(n):
                x[i] = fma(scale, z[i], fma(drift_scale, drift[i], D(decay * x[i])))
        else:
            for i in range(n):
                x[i] = fma(scale, z[i], D(decay * x[i]))
        pair, skip, done = pair + Q(pairs), L(0), done + n


@njit(nogil=True, cache=True)
def fill32(normal, out, first, count, seed0, seed1, t, call):
    """Write normals, or uniforms, to `count` float32 elements at address `out`."""
    k0, k1 = threefry(U(seed0), U(seed1), U(t), U(call))
    made = np.empty(2 * BLOCK, F)
    pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
    while done < count:
        pairs = _run(pair, (count - done + skip + 1) // 2)
        if normal:
            _normals32(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        else:
            _uniforms(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        n = min(2 * pairs - skip, count - done)
        x, z = _at(out, done, F(0), 4, n), _at(made.ctypes.data, skip, F(0), 4, n)
        for i in range(n):
            x[i] = z[i]
        pair, skip, done = pair + Q(pairs), L(0), done + n


@njit(nogil=True, cache=True)
def fill64(normal, out, first, count, seed0, seed1, t, call):
    """As `fill32` in float64."""
    k0, k1 = threefry(U(seed0), U(seed1), U(t), U(call))
    made = np.empty(2 * BLOCK, D)
    pair, skip, done = Q(first) >> Q(1), L(Q(first) & Q(1)), L(0)
    while done < count:
        pairs = _run(pair, (count - done + skip + 1) // 2)
        if normal:
            _normals64(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        else:
            _uniforms(made, k0, k1, U(pair), U(pair >> Q(32)), pairs)
        n = min(2 * pairs - skip, count - done)
        x, z = _at(out, done, D(0), 8, n), _at(made.ctypes.data, skip, D(0), 8, n)
        for i in range(n):
            x[i] = z[i]
        pair, skip, done = pair + Q(pairs), L(0), done + n


@njit(nogil=True)
def fill_rows(fill, normal, out, width, ids, n, d, seed0, seed1, t, call):
    """Write to n rows of d elements of `width` bytes at address `out`, for the chains at address `ids` (int64)."""
    chains = carray(pointer(ids, L(0)), n)
    for row in range(n):
        fill(normal, out + row * d * width, chains[row] * d, d, seed0, seed1, t, call)
