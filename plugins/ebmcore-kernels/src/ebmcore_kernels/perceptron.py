"""A recognised network as the compiled kernel takes it: a plan of integers, factors, and scratch for each thread."""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

from ebmcore_kernels import mlp_activations as units
from ebmcore_kernels.mlp_kernel import ROW, WORDS, padded, value_and_gradient
from ebmcore_kernels.nodes import Layer, Refused, Result

SELU_ALPHA, SELU_GAIN = 1.6732632423543772, 1.0507009873554805

KINDS = {
    "identity": units.IDENTITY,
    "selu": units.ELU,
    "elu": units.ELU,
    "relu": units.RELU,
    "leaky_relu": units.LEAKY_RELU,
    "silu": units.SILU,
    "tanh": units.TANH,
    "softplus": units.SOFTPLUS,
    "gelu": units.GELU,
    "gelu_tanh": units.GELU_TANH,
}

WIDEST, DEEPEST = 128, 16


class Perceptron:
    """Value and gradient of scale * layers(x) + quadratic * |x|^2 + constant; weights are read anew at every call.

    Args:
        result: What was recorded.
        d: Numbers of a position.

    Raises:
        Refused: It has no hidden layer, or a width with which the kernel gains nothing.
    """

    def __init__(self, result: Result, d: int) -> None:
        layers = result.layers
        if not 2 <= len(layers) <= DEEPEST or layers[-1].outputs != 1 or layers[-1].activation != "identity":
            raise Refused("not a network of one output with a hidden layer")
        hidden = [layer.outputs for layer in layers[:-1]]
        if max(hidden) > WIDEST:
            raise Refused("wider than what the kernel gains with")
        self._d, self._count = d, len(layers)
        self._held = [(place, tensor) for place, tensor in enumerate(_tensors(layers)) if tensor is not None]
        self._layout = [_layout(tensor) for _, tensor in self._held]
        self._plan, self._numbers = _plan(result)
        self._rows = padded(max(d, *hidden))
        self._slopes = sum(padded(width) for width in hidden)
        sizes = [d, *hidden, 1]
        packed = sum(
            padded(after) * padded(before) + padded(after) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self._bytes = (2 * self._rows + 4 + self._slopes) * ROW + 4 * packed + 64
        self._local = threading.local()

    @property
    def same(self) -> bool:
        """Whether the weights lie as they did: the same shapes, strides and dtype, whatever their storage."""
        return [_layout(tensor) for _, tensor in self._held] == self._layout

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return U [n], dU/dx [n, d] and a digest of the weights, for contiguous float32 positions [n, d]."""
        scratch, plan, plan_at, numbers_at = self._scratch()
        for place, tensor in self._held:
            plan[place] = tensor.data_ptr()
        n = len(x)
        u, g = torch.empty(n), torch.empty(n, self._d)
        digest = value_and_gradient(
            x.data_ptr(),
            u.data_ptr(),
            g.data_ptr(),
            n,
            self._d,
            self._count,
            plan_at,
            numbers_at,
            scratch,
            self._rows,
            self._slopes,
        )
        return u, g, digest

    def _scratch(self) -> tuple[int, np.ndarray, int, int]:
        local = self._local
        try:
            return local.scratch  # type: ignore[no-any-return]
        except AttributeError:
            local.memory, plan = np.empty(self._bytes, np.uint8), self._plan.copy()
            at = -(-local.memory.ctypes.data // 64) * 64
            local.scratch = at, plan, plan.ctypes.data, self._numbers.ctypes.data
            return local.scratch


def _tensors(layers: tuple[Layer, ...]) -> list[Tensor | None]:
    """Return the tensors whose addresses the plan holds, by their place in it."""
    places: list[Tensor | None] = [None] * (WORDS * len(layers))
    for i, layer in enumerate(layers):
        places[WORDS * i + 2], places[WORDS * i + 5] = layer.weight, layer.bias
    return places


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device.type, tensor.layout


def _plan(result: Result) -> tuple[np.ndarray, np.ndarray]:
    plan = np.zeros(WORDS * len(result.layers) + 1, np.int64)
    numbers = np.zeros(3 + 2 * len(result.layers))
    numbers[:3] = result.scale, result.constant, result.quadratic or 0.0
    plan[-1] = result.quadratic is not None
    gain = 1.0
    for i, layer in enumerate(result.layers):
        w, selu = layer.weight, layer.activation == "selu"
        outs, ins = (0, w.stride(0)) if w.ndim == 1 else w.stride()
        if layer.transposed:
            outs, ins = ins, outs
        stride = layer.bias.stride(0) if layer.bias is not None and layer.bias.ndim else 1
        plan[WORDS * i : WORDS * (i + 1)] = layer.outputs, KINDS[layer.activation], 0, outs, ins, 0, stride
        numbers[3 + 2 * i] = gain * (result.scale if i == len(result.layers) - 1 else 1.0)
        numbers[4 + 2 * i] = SELU_ALPHA if selu else layer.parameter
        gain = SELU_GAIN if selu else 1.0
    return plan, numbers
