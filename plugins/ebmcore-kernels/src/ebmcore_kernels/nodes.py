"""What a value inside an energy is: the input, its squares, a hidden layer, a result, a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ebmcore_kernels.held import Refused


@dataclass(frozen=True, eq=False)
class Layer:
    """activation(x W^T + b)."""

    weight: Tensor
    """[outputs, inputs], [inputs, outputs] if transposed, or [inputs] for a single output."""
    transposed: bool
    bias: Tensor | None = None
    activation: str = "identity"
    parameter: float = 0.0

    @property
    def outputs(self) -> int:
        """Number of units."""
        return 1 if self.weight.ndim == 1 else self.weight.shape[1 if self.transposed else 0]

    def key(self) -> tuple[object, ...]:
        """Return what tells this layer from another, weights by identity."""
        return id(self.weight), self.transposed, id(self.bias), self.activation, self.parameter


class Input(NamedTuple):
    """The positions, [n, width]."""

    width: int


class Scaled(NamedTuple):
    """factor * x, [n, width], on the way to its squares."""

    width: int
    factor: float


class Squares(NamedTuple):
    """factor * x^2, [n, width]."""

    width: int
    factor: float


class Hidden(NamedTuple):
    """What the layers make of the input, [n, width]."""

    layers: tuple[Layer, ...]
    width: int


class Result(NamedTuple):
    """scale * layers(x) + quadratic * |x|^2 + constant, [n], or [n, 1] as a column."""

    layers: tuple[Layer, ...]
    scale: float = 1.0
    quadratic: float | None = None
    constant: float = 0.0
    column: bool = False


class Weight(NamedTuple):
    """A tensor of the energy's own, or a view of it with the axes exchanged."""

    tensor: Tensor
    transposed: bool = False


Node = Input | Scaled | Squares | Hidden | Result | Weight

SMALLEST, LARGEST = 1e-6, 1e6
"""Factors between which no product of a few leaves float32, whatever their order."""


def number(value: object) -> float:
    """Return a plain number that a float32 network may be scaled or shifted by."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"{value!r} is not a plain number")
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise Refused(f"{value!r} is too small or too large a number")
    return float(value)


def output_of(node: object) -> Result:
    """Return a node as the network's output: a layer of one unit without activation is one."""
    match node:
        case Result():
            return node
        case Hidden(layers, 1) if layers[-1].activation == "identity":
            return Result(layers, column=True)
    raise Refused("a call on something else than the network's output")
