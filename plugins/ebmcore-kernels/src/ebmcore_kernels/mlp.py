"""The gradient backend `mlp`: a fused kernel for the value and input gradient of multilayer perceptrons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ebmcore_kernels.compiled import CompiledGradient
from ebmcore_kernels.held import Refused
from ebmcore_kernels.native import address, has_fma, native
from ebmcore_kernels.nodes import Layer, Result
from ebmcore_kernels.recording import Recording, record

Both = Callable[[Tensor], tuple[Tensor, Tensor]]

INPUTS, UNITS, LAYERS = 64, 128, 16
"""Coordinates, units of a layer and layers up to which it is faster than torch."""

LANES = 64

SELU_GAIN, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

KINDS = {
    "identity": 0,
    "elu": 1,
    "selu": 1,
    "relu": 2,
    "leaky_relu": 3,
    "silu": 4,
    "tanh": 5,
    "softplus": 6,
    "gelu": 7,
    "gelu_tanh": 8,
}

_WORDS = Struct("11q").pack


@final
@dataclass(frozen=True)
class MLP:
    """Value and gradient of a user's own multilayer perceptron, two to four times as fast as autograd on a CPU.

    It takes callables, modules and closures alike, in float32: linear layers, the usual activations, an added
    k |x|^2, a constant, a factor. What it cannot prove to be one of these it leaves to others. Bits do not depend on
    how the chains are cut.
    """

    def build(self, energy: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, /) -> Both | None:
        """Return x [n, d] -> (U [n], dU/dx [n, d]), or None: no perceptron, too wide, or not float32 on a CPU with fma.

        The calls of `energy` are followed on two small inputs. Whatever it holds (weights, attributes, closures,
        globals that it names) is looked at in each call: weights are read anew, and where something was exchanged,
        it is followed again, and left to autograd if it is no perceptron any more.
        """
        if dtype != torch.float32 or device.type != "cpu" or len(shape) != 1 or not 0 < shape[0] <= INPUTS:
            return None
        if not callable(energy) or not has_fma():
            return None
        try:
            return Perceptron(energy, shape[0])
        except Refused:
            return None


@final
class Perceptron:
    """The kernel on one energy; several threads may call it at once.

    Raises:
        Refused: The energy is not proved to be a perceptron, or too large a one.
    """

    def __init__(self, energy: Any, width: int) -> None:
        self._energy, self._width = energy, width
        self._lock = threading.Lock()
        self._own = threading.local()
        self._plan: _Plan | None = _Plan(record(energy, width), width)
        name = "value_and_gradient"
        self._kernel, self._address = native("mlp_kernel", name), address("mlp_kernel", name)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, d] at `x` [n, d]."""
        plan = self._current()
        if plan is None:
            return _by_autograd(self._energy, x)
        x = x.detach().contiguous()
        u, gradient = x.new_empty(len(x)), torch.empty_like(x)
        self._kernel(_WORDS(x.data_ptr(), u.data_ptr(), gradient.data_ptr(), len(x), *self._given(plan)))
        return u, gradient

    def compiled(self, n: int, d: int, /) -> CompiledGradient | None:
        """Return the kernel for strides of n chains in this thread, or None: what it is of is no perceptron now."""
        plan = self._current()
        # All chains at a time: the kernel packs the weights at each call.
        return None if plan is None else CompiledGradient(self._address, self._given(plan), n, plan)

    def _given(self, plan: _Plan) -> tuple[int, ...]:
        scratch = self._scratch(plan.floats)
        return self._width, plan.layers, plan.words_at, plan.numbers_at, scratch, plan.rows, plan.slopes

    def _current(self) -> _Plan | None:
        """Return the plan of what the energy does now; None where that is no perceptron, or in another precision."""
        plan = self._plan
        if plan is not None and not plan.holds():
            plan = self._renewed()
        return None if torch.is_autocast_enabled("cpu") else plan

    def _renewed(self) -> _Plan | None:
        with self._lock:
            if self._plan is not None and not self._plan.holds():
                try:
                    self._plan = _Plan(record(self._energy, self._width), self._width)
                except Refused:
                    self._plan = None
            return self._plan

    def _scratch(self, floats: int) -> int:
        """Return the address, a multiple of 64, of memory that this thread has for itself."""
        room = getattr(self._own, "room", None)
        if room is None or room[1] < floats:
            held = np.empty(floats + 16, np.float32)
            room = self._own.room = (held, floats, -(-held.ctypes.data // 64) * 64)
        address: int = room[2]
        return address


@final
class _Plan:
    """A recording in the kernel's terms.

    Raises:
        Refused: The perceptron is too large to gain, or has no hidden layer.
    """

    def __init__(self, recording: Recording, width: int) -> None:
        result, self._held = recording.result, recording.held
        layers = result.layers
        self.layers = len(layers)
        outputs = [layer.outputs for layer in layers]
        if not 2 <= len(layers) <= LAYERS or max(outputs) > UNITS or outputs[-1] != 1:
            raise Refused("too many units or layers, or none hidden")
        self._weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None]
        self._places = self._placed()
        self._tables = _words(result), _numbers(result)
        self.words_at, self.numbers_at = (table.ctypes.data for table in self._tables)
        padded = [_padded(units) for units in (width, *outputs)]
        self.rows, self.slopes = max(padded), sum(padded[1:-1])
        packed = sum(wide * across + wide for across, wide in pairwise(padded))
        self.floats = (2 * self.rows + 4 + self.slopes) * LANES + packed

    def holds(self) -> bool:
        """Say whether this is still what the energy does."""
        return self._held.unchanged() and self._placed() == self._places

    def _placed(self) -> list[tuple[int, torch.Size, tuple[int, ...]]]:
        return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in self._weights]


def _words(result: Result) -> np.ndarray[Any, np.dtype[np.int64]]:
    words: list[int] = []
    for layer in result.layers:
        weight, bias = layer.weight, layer.bias
        outs, ins = (0, weight.stride(0)) if weight.ndim == 1 else weight.stride()
        if layer.transposed:
            outs, ins = ins, outs
        at, step = (0, 0) if bias is None else (bias.data_ptr(), bias.stride(0) if bias.ndim else 1)
        words += [layer.outputs, KINDS[layer.activation], weight.data_ptr(), outs, ins, at, step]
    return np.array([*words, result.quadratic is not None], np.int64)


def _numbers(result: Result) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers, gain = [result.scale, result.constant, result.quadratic or 0.0], 1.0
    for layer in result.layers:
        last = layer is result.layers[-1]
        numbers += [gain * result.scale if last else gain, _parameter(layer)]
        gain = SELU_GAIN if layer.activation == "selu" else 1.0
    return np.array(numbers, np.float64)


def _parameter(layer: Layer) -> float:
    return SELU_ALPHA if layer.activation == "selu" else layer.parameter


def _padded(units: int) -> int:
    return -(-units // 4) * 4


def _by_autograd(energy: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        u = energy(leaf)
        (gradient,) = torch.autograd.grad(u.sum(), leaf)
    return u.detach(), gradient
