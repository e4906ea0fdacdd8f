"""The value and the input gradient of a multilayer perceptron, fused and compiled, in float32.

    z_l = W_l a_(l-1) + b_l,   a_l = f_l(z_l),   U = s (w . a_H + b) + c + k |x|^2
    delta_H = s w * f_H'(z_H),   delta_(l-1) = (W_l^T delta_l) * f_(l-1)'(z_(l-1)),   dU/dx = W_1^T delta_1 + 2 k x

Blocks of 64 chains lie on the SIMD lanes, one row of 64 a unit, in scratch that stays in the first
cache. Products go by tiles of 4 x 4 weights held in registers, so widths are padded to 4 with zeros.
All 64 lanes are computed for a part of a block too, so that a chain's bits depend on nothing but the chain.
Weights are read anew at every call: a packed copy with the factors f = gain * unit (SELU) folded into
the layer after. With a 32-wide network that is a tenth of the time of a block, with a thousand chains nothing.

Addresses and offsets are integers; an array that begins at an offset has an index that cannot be negative,
without which LLVM does not vectorise a loop.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ebmcore_kernels.intrinsics import fma, pointer
from ebmcore_kernels.mlp_activations import activate

F, D, L = np.float32, np.float64, np.int64

LANES = 64
ROW = 4 * LANES
"""Bytes of one unit of a block."""
WORDS = 7
"""Integers of the plan a layer: width, activation, weight, its strides over outputs and inputs, bias, its stride."""


@njit
def _floats(address, count):
    return carray(pointer(L(address), F(0)), count)


@njit
def padded(width):
    """Return the next multiple of 4."""
    return (width + 3) // 4 * 4


@njit
def _tile(y, x, weights, biases, outs, ins, fresh):
    """Set 4 rows at `y` to W x + b, or add W x, for 4 rows at `x`; W's strides are `outs` and `ins`."""
    out, a = _floats(y, 4 * LANES), _floats(x, 4 * LANES)
    w, b = _floats(weights, 3 * outs + 3 * ins + 1), _floats(biases, 4)
    w00, w01, w02, w03 = w[0], w[ins], w[2 * ins], w[3 * ins]
    w10, w11, w12, w13 = w[outs], w[outs + ins], w[outs + 2 * ins], w[outs + 3 * ins]
    w20, w21, w22, w23 = w[2 * outs], w[2 * outs + ins], w[2 * outs + 2 * ins], w[2 * outs + 3 * ins]
    w30, w31, w32, w33 = w[3 * outs], w[3 * outs + ins], w[3 * outs + 2 * ins], w[3 * outs + 3 * ins]
    if fresh:
        b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
        for j in range(LANES):
            a0, a1, a2, a3 = a[j], a[LANES + j], a[2 * LANES + j], a[3 * LANES + j]
            out[j] = fma(w03, a3, fma(w02, a2, fma(w01, a1, fma(w00, a0, b0))))
            out[LANES + j] = fma(w13, a3, fma(w12, a2, fma(w11, a1, fma(w10, a0, b1))))
            out[2 * LANES + j] = fma(w23, a3, fma(w22, a2, fma(w21, a1, fma(w20, a0, b2))))
            out[3 * LANES + j] = fma(w33, a3, fma(w32, a2, fma(w31, a1, fma(w30, a0, b3))))
    else:
        for j in range(LANES):
            a0, a1, a2, a3 = a[j], a[LANES + j], a[2 * LANES + j], a[3 * LANES + j]
            out[j] = fma(w03, a3, fma(w02, a2, fma(w01, a1, fma(w00, a0, out[j]))))
            out[LANES + j] = fma(w13, a3, fma(w12, a2, fma(w11, a1, fma(w10, a0, out[LANES + j]))))
            out[2 * LANES + j] = fma(w23, a3, fma(w22, a2, fma(w21, a1, fma(w20, a0, out[2 * LANES + j]))))
            out[3 * LANES + j] = fma(w33, a3, fma(w32, a2, fma(w31, a1, fma(w30, a0, out[3 * LANES + j]))))


@njit
def _multiply(y, x, weights, biases, rows, columns, outs, ins):
    """Set `rows` rows at `y` to W x + b for `columns` rows at `x`."""
    for o in range(0, rows, 4):
        line, bias = y + o * ROW, biases + 4 * o
        _tile(line, x, weights + 4 * o * outs, bias, outs, ins, True)
        for i in range(4, columns, 4):
            _tile(line, x + i * ROW, weights + 4 * (o * outs + i * ins), bias, outs, ins, False)


@njit
def _clear(address, count):
    a = _floats(address, count)
    for j in range(count):
        a[j] = F(0)


@njit
def _times(address, other, count):
    a, b = _floats(address, count), _floats(other, count)
    for j in range(count):
        a[j] = F(a[j] * b[j])


@njit
def _scale_row(address, factor):
    a = _floats(address, LANES)
    for j in range(LANES):
        a[j] = F(a[j] * factor)


@njit
def _add_row(address, other, factor):
    a, b = _floats(address, LANES), _floats(other, LANES)
    for j in range(LANES):
        a[j] = fma(factor, b[j], a[j])


@njit
def _add_square(address, other):
    a, b = _floats(address, LANES), _floats(other, LANES)
    for j in range(LANES):
        a[j] = fma(b[j], b[j], a[j])


@njit
def _pack(plan, numbers, layers, d, address):
    """Write every layer's weights [outputs, inputs], padded, then its biases."""
    inputs = d
    for layer in range(layers):
        outputs, across, wide = plan[WORDS * layer], padded(inputs), padded(plan[WORDS * layer])
        factor = numbers[3 + 2 * layer]
        so, si = plan[WORDS * layer + 3], plan[WORDS * layer + 4]
        w = _floats(plan[WORDS * layer + 2], (outputs - 1) * so + (inputs - 1) * si + 1)
        _clear(address, wide * across + wide)
        for o in range(outputs):
            line = _floats(address + 4 * o * across, inputs)
            if si == 1:
                source = _floats(plan[WORDS * layer + 2] + 4 * o * so, inputs)
                for i in range(inputs):
                    line[i] = F(factor * D(source[i]))
            else:
                for i in range(inputs):
                    line[i] = F(factor * D(w[o * so + i * si]))
        address += 4 * wide * across
        if plan[WORDS * layer + 5]:
            stride, line = plan[WORDS * layer + 6], _floats(address, outputs)
            b = _floats(plan[WORDS * layer + 5], (outputs - 1) * stride + 1)
            last = numbers[0] if layer == layers - 1 else D(1)
            for o in range(outputs):
                line[o] = F(last * D(b[o * stride]))
        address += 4 * wide
        inputs = outputs


@njit
def _block(x, u, g, count, d, layers, plan, numbers, packed, rows, slopes, zeros, values):
    """Do `count` <= 64 chains at address `x`; two sets of `rows` rows each lie at `values`, then one row more."""
    a, b, line = values, values + rows * ROW, values + 2 * rows * ROW
    source, target = _floats(x, count * d), _floats(a, d * LANES)
    _clear(a, padded(d) * LANES)
    for j in range(count):
        for i in range(d):
            target[i * LANES + j] = source[j * d + i]
    square = line + ROW
    _clear(line, 2 * LANES)
    for i in range(d):
        _add_square(square, a + i * ROW)

    weights, width, slope = packed, d, slopes
    for layer in range(layers - 1):
        outputs, across = plan[WORDS * layer], padded(width)
        wide = padded(outputs)
        _multiply(b, a, weights, weights + 4 * wide * across, wide, across, across, 1)
        activate(plan[WORDS * layer + 1], b, slope, outputs * LANES, F(numbers[4 + 2 * layer]))
        _clear(b + outputs * ROW, (wide - outputs) * LANES)
        weights, width, slope = weights + 4 * (wide * across + wide), outputs, slope + wide * ROW
        a, b = b, a

    wide = padded(width)
    last = _floats(weights, 4 * wide + 1)
    slope -= wide * ROW
    _clear(slope + width * ROW, (wide - width) * LANES)
    for i in range(width):
        _add_row(line, a + i * ROW, last[i])
        _scale_row(slope + i * ROW, last[i])
    value, square_row, out = _floats(line, LANES), _floats(square, LANES), _floats(u, count)
    constant, k, quadratic = F(numbers[1]), F(numbers[2]), plan[WORDS * layers] != 0
    for j in range(count):
        y = F(value[j] + F(last[4 * wide] + constant))
        out[j] = fma(k, square_row[j], y) if quadratic else y

    delta = slope
    for layer in range(layers - 2, -1, -1):
        inputs = plan[WORDS * (layer - 1)] if layer else d
        across, wide = padded(inputs), padded(plan[WORDS * layer])
        weights -= 4 * (wide * across + wide)
        _multiply(a, delta, weights, zeros, across, wide, 1, across)
        if layer:
            slope -= across * ROW
            _times(a, slope, inputs * LANES)
            _clear(a + inputs * ROW, (across - inputs) * LANES)
            delta, a, b = a, b, a
    result, gradient, twice = _floats(a, d * LANES), _floats(g, count * d), F(F(2) * k)
    for j in range(count):
        for i in range(d):
            y = result[i * LANES + j]
            gradient[j * d + i] = fma(twice, source[j * d + i], y) if quadratic else y


@njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def value_and_gradient(args):
    """Write U [n] and dU/dx [n, d] of the positions [n, d], all float32 and contiguous.

    Arguments: the addresses of x, U and dU/dx, n, d, the number of layers, the addresses of the plan, the numbers and
    the scratch, `rows`, `slopes`. The plan is WORDS integers a layer, then whether there is a quadratic term;
    the numbers are float64: s, c, k, then the weights' factor and the activation's parameter, a layer. At the scratch,
    64-byte aligned: two sets of `rows` rows, two rows, 128 zeros, `slopes` rows, the packed weights.
    """
    words = carray(pointer(args, L(0)), 11)
    x, u, g, n, d, layers = words[0], words[1], words[2], words[3], words[4], words[5]
    scratch, rows, slopes = words[8], words[9], words[10]
    plan = carray(pointer(words[6], L(0)), WORDS * layers + 1)
    numbers = carray(pointer(words[7], D(0)), 3 + 2 * layers)
    zeros = scratch + (2 * rows + 2) * ROW
    derivatives = zeros + 2 * ROW
    packed = derivatives + slopes * ROW
    _clear(zeros, 2 * LANES)
    _pack(plan, numbers, layers, d, packed)
    for lo in range(0, n, LANES):
        count = min(LANES, n - lo)
        _block(
            x + 4 * lo * d,
            u + 4 * lo,
            g + 4 * lo * d,
            count,
            d,
            layers,
            plan,
            numbers,
            packed,
            rows,
            derivatives,
            zeros,
            scratch,
        )
    return L(0)
