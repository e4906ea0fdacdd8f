"""Activations and their derivatives, compiled, in float32: polynomials, explicit fma, no fast-math.

Each is a function of the pre-activation z and a parameter, and gives (value, derivative); one
exponential, of an argument <= 0, serves both. NaN passes through every comparison (`lo if z < lo
else z`, never the other way), and an exponential that would be denormal is 0.

    exp(z) = s (1 + q), s = 2^n, n = round(z / ln 2), q = expm1(z - n ln 2) a polynomial: so that
    exp(z) - 1 = s q + (s - 1) keeps its digits near 0; relative error below 1e-8 before rounding
    log(1 + e) = 2 atanh(e / (2 + e)), relative error below 1e-8
    erfc(a) = t Q(t) exp(-a^2), t = 1 / (1 + 0.45 a), absolute error below 2e-9
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit

from ebmcore_kernels.intrinsics import bits, fma, from_bits, pointer

F, N = np.float32, np.int32


@njit(inline="always")
def _parts(z):
    """Return s and q for z <= 0; s is 0 below -87.7."""
    z = F(-88.02969) if z < F(-88.02969) else z
    t = fma(z, F(1.4426950408889634), F(12582912.0))  # 1.5 * 2**23: the sum's last bits are round(z / ln 2)
    s = from_bits(N(N(bits(t) << N(23)) + N(0x3F800000)), F(0))
    r = fma(F(t - F(12582912.0)), F(-0.6931471805599453), z)
    p = fma(F(0.0013814466886306893), r, F(0.008368780414535464))
    p = fma(p, r, F(0.04166839421432591))
    p = fma(p, r, F(0.16666520107783112))
    p = fma(p, r, F(0.4999999341248514))
    return s, fma(F(r * r), p, r)


@njit(inline="always")
def _exp(z):
    s, q = _parts(z)
    return fma(s, q, s)


@njit(inline="always")
def _sigmoid_exp(z):
    """Return the logistic function of z and exp(-|z|)."""
    e = _exp(z if z < F(0) else F(-z))
    top = F(1) if z > F(0) else e
    return F(top / F(F(1) + e)), e


@njit(inline="always")
def _tanh(z):
    s, q = _parts(F(F(2) * z) if z < F(0) else F(F(-2) * z))
    m = fma(s, q, F(s - F(1)))
    a = F(m / F(m + F(2)))
    return a if z < F(0) else F(-a)


@njit(inline="always")
def _elu(z, alpha):
    s, q = _parts(F(0) if z > F(0) else z)
    a = F(alpha * fma(s, q, F(s - F(1))))
    d = F(alpha * fma(s, q, s))
    return z if z > F(0) else a, F(1) if z > F(0) else d


@njit(inline="always")
def _relu(z, unused):
    d = F(0) if z <= F(0) else z
    return d, F(1) if z > F(0) else d


@njit(inline="always")
def _leaky_relu(z, slope):
    d = slope if z <= F(0) else z
    return z if z > F(0) else F(slope * z), F(1) if z > F(0) else d


@njit(inline="always")
def _silu(z, unused):
    y, _ = _sigmoid_exp(z)
    a = F(z * y)
    return a, fma(a, F(F(1) - y), y)


@njit(inline="always")
def _tanh_unit(z, unused):
    a = _tanh(z)
    return a, fma(F(-a), a, F(1))


@njit(inline="always")
def _softplus(z, unused):
    y, e = _sigmoid_exp(z)
    s = F(e / F(e + F(2)))
    w = F(s * s)
    p = fma(F(0.2819154690573845), w, F(0.2795766586544481))
    p = fma(p, w, F(0.40025114318816407))
    p = fma(p, w, F(0.6666631014498241))
    p = fma(p, w, F(2.0000000080787417))
    return fma(s, p, F(0) if z < F(0) else z), y


@njit(inline="always")
def _gelu(z, unused):
    size = F(-z) if z < F(0) else z
    e = _exp(F(F(z * F(-0.5)) * z))
    t = F(F(1) / fma(size, F(0.31819805153394637), F(1)))
    p = fma(F(0.09256983954783467), t, F(-0.4941052661087966))
    p = fma(p, t, F(0.857169621084289))
    p = fma(p, t, F(-0.37580469885312706))
    p = fma(p, t, F(0.460171724447315))
    p = fma(p, t, F(0.20100905092762378))
    p = fma(p, t, F(0.25898973000329034))
    tail = F(F(F(F(0.5) * t) * p) * e)
    y = tail if z < F(0) else F(F(1) - tail)
    return F(z * y), fma(z, F(F(0.3989422804014327) * e), y)


@njit(inline="always")
def _gelu_tanh(z, unused):
    w = F(z * z)
    t = _tanh(F(z * fma(w, F(0.035677408136300125), F(0.7978845608028654))))
    y = fma(t, F(0.5), F(0.5))
    slope = fma(w, F(0.10703222440890037), F(0.7978845608028654))
    return F(z * y), fma(F(F(F(0.5) * z) * fma(F(-t), t, F(1))), slope, y)


def _pass(unit: Any) -> Any:
    @njit(error_model="numpy")  # else a division is a branch that may raise, and the loop is not vectorised
    def run(values, derivatives, count, parameter):
        a, d = carray(pointer(values, F(0)), count), carray(pointer(derivatives, F(0)), count)
        for j in range(count):
            a[j], d[j] = unit(a[j], parameter)

    return run


_elu_pass, _relu_pass, _leaky_relu_pass = _pass(_elu), _pass(_relu), _pass(_leaky_relu)
_silu_pass, _tanh_pass, _softplus_pass = _pass(_silu), _pass(_tanh_unit), _pass(_softplus)
_gelu_pass, _gelu_tanh_pass = _pass(_gelu), _pass(_gelu_tanh)

IDENTITY, ELU, RELU, LEAKY_RELU, SILU, TANH, SOFTPLUS, GELU, GELU_TANH = range(9)


@njit
def activate(kind, values, derivatives, count, parameter):
    """Replace `count` pre-activations at address `values` by their values; write derivatives at the other address."""
    if kind == ELU:
        _elu_pass(values, derivatives, count, parameter)
    elif kind == RELU:
        _relu_pass(values, derivatives, count, parameter)
    elif kind == LEAKY_RELU:
        _leaky_relu_pass(values, derivatives, count, parameter)
    elif kind == SILU:
        _silu_pass(values, derivatives, count, parameter)
    elif kind == TANH:
        _tanh_pass(values, derivatives, count, parameter)
    elif kind == SOFTPLUS:
        _softplus_pass(values, derivatives, count, parameter)
    elif kind == GELU:
        _gelu_pass(values, derivatives, count, parameter)
    elif kind == GELU_TANH:
        _gelu_tanh_pass(values, derivatives, count, parameter)
    else:
        d = carray(pointer(derivatives, F(0)), count)
        for j in range(count):
            d[j] = F(1)
