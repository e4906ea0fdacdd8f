"""The kernels of the backend `triton`: numbers for the elements of chains, fused with the update that uses them.

A program makes `PAIRS` pairs, each once, and moves the elements that they belong to. Chains whose ids follow each
other are one row of elements, whose first may be the second of a pair (`SKIP`); for a tensor of ids, each of n rows of
d elements begins in the pair and lane that its id says. The key is made in the kernel, from a step counter that is a
number or, so that a CUDA graph can be captured, lies in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ebmcore_kernels.triton_variates import normals32, normals64, threefry

PAIRS = 512
"""Pairs of a program: with four warps, four a thread."""

# Compiled anew for a value of 1 and for multiples of 16, but for these: they change all the time.
_ANY = ("t", "pair", "seed0", "seed1", "call")


@triton.jit
def _word(value):
    """Return the low 32 bits of an integer, or of the one that a pointer points to."""
    if value.dtype.is_ptr():
        value = tl.load(value)
    return value.to(tl.uint32)


@triton.jit
def _words(ids, t, pair, count, d, seed0, seed1, call, PAIRS: tl.constexpr):
    """Return the two words of each pair of this program."""
    k0, k1 = threefry(_word(seed0), _word(seed1), _word(t), _word(call))
    q = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    if ids is None:
        pair = (q + pair).to(tl.uint64)
    else:
        width = (d + 1) // 2
        row = q // width
        start = tl.load(ids + row, mask=row * d < count, other=0) * d
        pair = (start.to(tl.uint64) >> 1) + (q - row * width).to(tl.uint64)
    return threefry(k0, k1, pair.to(tl.uint32), (pair >> 32).to(tl.uint32))


@triton.jit
def _elements(ids, count, d, PAIRS: tl.constexpr, SKIP: tl.constexpr):
    """Return where the elements of this program's pairs lie, lane by lane, and which of them there are."""
    e = tl.program_id(0).to(tl.int64) * (2 * PAIRS) + tl.arange(0, 2 * PAIRS)
    if ids is None:
        at, there = e - SKIP, e < count + SKIP
        if SKIP:
            there = there & (e > 0)
    else:
        width = (d + 1) // 2 * 2
        row = e // width
        inside = row * d < count
        column = e - row * width - (tl.load(ids + row, mask=inside, other=0) * d & 1)
        at, there = row * d + column, inside & (column >= 0) & (column < d)
    return at, there


@triton.jit
def _normals(w0, w1, kind: tl.constexpr):
    if kind == tl.float64:
        c, s = normals64(w0, w1)
    else:
        c, s = normals32(w0, w1)
    return tl.interleave(c, s)


@triton.jit(do_not_specialize=_ANY)
def fill(
    out, ids, t, pair: tl.int64, count: tl.int64, d: tl.int64,
    seed0: tl.int32, seed1: tl.int32, call: tl.int32,
    NORMAL: tl.constexpr, PAIRS: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """Write normals, or uniforms, to `count` elements at `out`.

    They are those of consecutive chains from pair `pair` on, or, d a chain, those of the chains `ids` (int64).
    """
    w0, w1 = _words(ids, t, pair, count, d, seed0, seed1, call, PAIRS)
    at, there = _elements(ids, count, d, PAIRS, SKIP)
    if NORMAL:
        made = _normals(w0, w1, out.dtype.element_ty)
    else:
        made = (tl.interleave(w0, w1) >> 8).to(tl.float32) * (2.0**-24)
    tl.store(out + at, made.to(out.dtype.element_ty), mask=there)


@triton.jit
def _number(bits, kind: tl.constexpr):
    """Return the number with these bits of float64 in another type: as an argument a float is rounded to float32."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True).to(kind)


@triton.jit(do_not_specialize=(*_ANY, "scale", "decay", "drift_scale"))
def perturb(
    x, drift, ids, t, pair: tl.int64, count: tl.int64, d: tl.int64,
    seed0: tl.int32, seed1: tl.int32, call: tl.int32,
    scale: tl.int64, decay: tl.int64, drift_scale: tl.int64,
    PAIRS: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """Set x <- decay*x + drift_scale*drift + scale*z for `count` elements; the factors are the bits of float64."""
    kind: tl.constexpr = x.dtype.element_ty
    w0, w1 = _words(ids, t, pair, count, d, seed0, seed1, call, PAIRS)
    at, there = _elements(ids, count, d, PAIRS, SKIP)
    z = _normals(w0, w1, kind)
    moved = tl.load(x + at, mask=there) * _number(decay, kind)
    if drift is not None:
        moved = tl.fma(tl.load(drift + at, mask=there), _number(drift_scale, kind), moved)
    tl.store(x + at, tl.fma(z, _number(scale, kind), moved), mask=there)


@triton.jit(do_not_specialize=_ANY)
def perturb_by_tensors(
    x, drift, ids, t, pair: tl.int64, count: tl.int64, d: tl.int64,
    seed0: tl.int32, seed1: tl.int32, call: tl.int32,
    scale, scale_row, scale_column, decay, decay_row, decay_column, drift_scale, drift_row, drift_column,
    PAIRS: tl.constexpr, SKIP: tl.constexpr,
):  # fmt: skip
    """As `perturb` for factors of two dimensions, rows and columns of elements, with the strides that follow each."""
    kind: tl.constexpr = x.dtype.element_ty
    w0, w1 = _words(ids, t, pair, count, d, seed0, seed1, call, PAIRS)
    at, there = _elements(ids, count, d, PAIRS, SKIP)
    row = at // d
    column = at - row * d
    z = _normals(w0, w1, kind)
    moved = tl.load(x + at, mask=there) * tl.load(decay + row * decay_row + column * decay_column, mask=there)
    if drift is not None:
        along = tl.load(drift_scale + row * drift_row + column * drift_column, mask=there)
        moved = tl.fma(tl.load(drift + at, mask=there), along, moved)
    moved = tl.fma(z, tl.load(scale + row * scale_row + column * scale_column, mask=there), moved)
    tl.store(x + at, moved, mask=there)
