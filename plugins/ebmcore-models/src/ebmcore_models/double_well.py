"""The double well: two minima a coordinate, at -b and b, and a barrier between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ebmcore_models.dot import dot
from ebmcore_models.exact import check_temperature

_NODES = 128
_TAIL = 60.0


@dataclass(frozen=True)
class DoubleWell:
    """A double well in every coordinate, all independent.

        U(x) = barrier_height * sum_i (x_i^2 - b^2)^2,    dU/dx_i = 4 * barrier_height * x_i * (x_i^2 - b^2)

    The barrier at x_i = 0 is barrier_height * b^4 high. TorchEBM's DoubleWellModel is the same
    function with the same names and defaults (barrier_height = 2, b = 1).

    Positions have the shape (dim,), or any shape where `dim` is left out. U is in the units of
    the temperature, and in the dtype and on the device of x; nothing is kept between calls.
    """

    barrier_height: float = field(
        default=2.0, metadata={"gt": 0, "description": "factor on (x^2 - b^2)^2; the barrier is barrier_height * b^4"}
    )
    b: float = field(default=1.0, metadata={"ge": 0, "description": "the minima are at -b and b"})
    dim: int | None = field(
        default=None, metadata={"ge": 1, "description": "number of coordinates; if left out, any shape"}
    )
    # Set where `dim` is, else absent: an energy without the attribute takes any shape.
    shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dim is not None:
            object.__setattr__(self, "shape", (self.dim,))

    def __call__(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, *shape]."""
        return self._energy(self._slope(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape] at x [n, *shape]."""
        return self._slope(x).mul_(x)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape] at x [n, *shape]."""
        slope = self._slope(x)
        return self._energy(slope), slope.mul_(x)

    @property
    def slope(self) -> tuple[float, ...]:
        """The coefficients of dU/dx_i as a polynomial in x_i, lowest power first."""
        factor = 4.0 * self.barrier_height
        return 0.0, -factor * self.b**2, 0.0, factor

    def exact_moments(self, temperature: float = 1.0) -> dict[str, float]:
        """Return the moments of one coordinate under exp(-U/T); the coordinates are independent and alike.

        Gauss-Legendre quadrature with 128 nodes over the part of x > 0 where (U - min U)/T < 60
        (what lies outside weighs less than 1e-26 of the whole); relative error below 1e-12.

        Args:
            temperature: T > 0.

        Returns:
            "mean" (0 by symmetry), "variance" (E x^2) and "abs" (E |x|).

        Raises:
            InputError: `temperature` is not positive.
        """
        check_temperature(temperature)
        stiffness = self.barrier_height / temperature
        reach = math.sqrt(_TAIL / stiffness)
        low, high = math.sqrt(max(0.0, self.b**2 - reach)), math.sqrt(self.b**2 + reach)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        x = low + (high - low) * (nodes + 1.0) / 2.0
        density = weights * np.exp(-stiffness * (x**2 - self.b**2) ** 2)
        density /= density.sum()
        return {"mean": 0.0, "variance": float(density @ x**2), "abs": float(density @ x)}

    def _slope(self, x: Tensor) -> Tensor:
        # 4h (x^2 - b^2), of which both U = sum slope^2 / (16h) and dU/dx = slope * x are made. One pass over
        # x, where writing it out takes three; the constant is a tensor of one element because addcmul wants one.
        factor = 4.0 * self.barrier_height
        return torch.addcmul(_number(-factor * self.b**2, x.dtype, x.device), x, x, value=factor)

    def _energy(self, slope: Tensor) -> Tensor:
        return dot(slope, slope).mul_(1.0 / (16.0 * self.barrier_height))


@lru_cache(maxsize=32)
def _number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)
